/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The files are JSON, which is read as the YAML that it is. They are written by root, but what is in them comes from images and from whoever begins
 * containers: all is bounded. A container's files are read once; what was not there is looked for again.
 */
#include "identity/runtime.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "yaml/yaml_tree.h"

#define SETS       64u
#define WAYS       8u
#define ID_MAX     64u
#define FILE_MAX   (1u << 20)
#define AGAIN_NS   NS_PER_SEC
#define AGAIN_MOST (64 * NS_PER_SEC)
#define NODES_MAX  65536u
#define DEPTH_MAX  32u

struct container {
	char id[ID_MAX + 1];
	bool known;
	uint64_t used, again, pause;
	struct runtime_info info;
	char *texts;
	uint32_t used_bytes;
};

struct runtimes {
	char root[256];
	struct container containers[SETS][WAYS];
};

/* ---- texts of a container ---- */

/* A copy of the text, or NULL: it is empty, or there is no room. */
static const char *keep(struct container *c, const char *text)
{
	size_t n = text ? strlen(text) + 1 : 0;
	char *at;

	if (n < 2 || n > RUNTIME_TEXT_MAX - c->used_bytes)
		return NULL;
	at = c->texts + c->used_bytes;
	memcpy(at, text, n);
	c->used_bytes += (uint32_t)n;
	return at;
}

/* What is known already stays. */
static void set(struct container *c, const char **to, const char *text)
{
	if (!*to)
		*to = keep(c, text);
}

static void add_label(struct container *c, const char *key, const char *value)
{
	struct runtime_info *info = &c->info;
	struct runtime_label label;

	if (info->n_labels == RUNTIME_LABELS_MAX)
		return;
	label.key = keep(c, key);
	label.value = keep(c, value);
	if (label.key && label.value)
		info->labels[info->n_labels++] = label;
}

/* ---- JSON ---- */

static void free_tree(struct yaml_tree **tree)
{
	yaml_tree_free(*tree);
}

static const struct yaml_node *parse(struct yaml_tree **ret, const char *text, size_t size)
{
	static const struct yaml_bounds bounds = { .depth = DEPTH_MAX, .nodes = NODES_MAX, .documents = true };
	const struct yaml_node *documents = NULL;
	struct fault fault;

	if (yaml_documents_parse(ret, &documents, text, size, "", &bounds, &fault) < 0)
		return NULL;
	return documents && documents->first ? documents->first->node : NULL;
}

static const struct yaml_node *read_json(struct yaml_tree **ret, const char *path)
{
	_cleanup_(free_pointer) char *text = NULL;
	size_t size;

	if (read_small_file(path, FILE_MAX, &text, &size) < 0)
		return NULL;
	for (size_t i = 0; i < size; i++)
		if (text[i] == '\t') /* between values: within them JSON has none */
			text[i] = ' ';
	return parse(ret, text, size);
}

static const struct yaml_node *member(const struct yaml_node *node, const char *key)
{
	if (!node || node->kind != YAML_IS_MAPPING)
		return NULL;
	for (const struct yaml_edge *e = node->first; e; e = e->next)
		if (!strcmp(e->key, key))
			return e->node;
	return NULL;
}

static const char *text_of(const struct yaml_node *node)
{
	return node && node->kind == YAML_IS_SCALAR && !yaml_node_is_null(node) ? node->text : NULL;
}

static const char *text_at(const struct yaml_node *node, const char *key)
{
	return text_of(member(node, key));
}

/* ---- what the keys of Kubernetes are called ---- */

enum place { PLACE_NAME, PLACE_IMAGE, PLACE_POD, PLACE_NAMESPACE, PLACE_SANDBOX };

/* Annotations of a bundle, and labels of docker's. */
static const struct {
	const char *key;
	enum place place;
} places[] = {
	{ "io.kubernetes.cri.container-name", PLACE_NAME },
	{ "io.kubernetes.cri.image-name", PLACE_IMAGE },
	{ "io.kubernetes.cri.sandbox-name", PLACE_POD },
	{ "io.kubernetes.cri.sandbox-namespace", PLACE_NAMESPACE },
	{ "io.kubernetes.cri.sandbox-id", PLACE_SANDBOX },
	{ "io.kubernetes.container.name", PLACE_NAME },
	{ "io.kubernetes.pod.name", PLACE_POD },
	{ "io.kubernetes.pod.namespace", PLACE_NAMESPACE },
	{ "io.kubernetes.sandbox.id", PLACE_SANDBOX },
	{ "io.kubernetes.cri-o.ImageName", PLACE_IMAGE },
	{ "io.kubernetes.cri-o.SandboxID", PLACE_SANDBOX },
	{ "nerdctl/name", PLACE_NAME },
	{ "nerdctl/image-ref", PLACE_IMAGE },
};

static void take_key(struct container *c, const char *key, const char *value)
{
	struct runtime_info *info = &c->info;
	const char **const to[] = { &info->name, &info->image, &info->pod, &info->namespace, &info->sandbox };

	for (size_t i = 0; i < ARRAY_SIZE(places); i++)
		if (!strcmp(places[i].key, key))
			set(c, to[places[i].place], value);
}

static void take_keys(struct container *c, const struct yaml_node *node)
{
	if (!node || node->kind != YAML_IS_MAPPING)
		return;
	for (const struct yaml_edge *e = node->first; e; e = e->next)
		if (text_of(e->node))
			take_key(c, e->key, text_of(e->node));
}

static void take_labels(struct container *c, const struct yaml_node *node)
{
	if (!node || node->kind != YAML_IS_MAPPING)
		return;
	for (const struct yaml_edge *e = node->first; e; e = e->next)
		if (text_of(e->node))
			add_label(c, e->key, text_of(e->node));
}

/* ---- runtimes ---- */

#define PATH_ROOM 768

/* Where docker keeps its containers, as its own configuration says. */
static void find_docker(const struct runtimes *r, char *folder, size_t size)
{
	_cleanup_(free_tree) struct yaml_tree *tree = NULL;
	const struct yaml_node *node;
	const char *root;
	char path[PATH_ROOM];

	snprintf(path, sizeof path, "%s/etc/docker/daemon.json", r->root);
	node = read_json(&tree, path);
	root = text_at(node, "data-root");
	if (!root)
		root = text_at(node, "graph"); /* before docker 17.05 */
	snprintf(folder, size, "%s%s/containers", r->root, root && *root == '/' ? root : "/var/lib/docker");
}

static bool read_docker(const struct runtimes *r, struct container *c)
{
	_cleanup_(free_tree) struct yaml_tree *tree = NULL, *host_tree = NULL;
	const struct yaml_node *node, *config;
	char folder[PATH_ROOM - 128], path[PATH_ROOM];
	const char *name, *privileged;

	find_docker(r, folder, sizeof folder);
	snprintf(path, sizeof path, "%s/%s/config.v2.json", folder, c->id);
	node = read_json(&tree, path);
	if (!node)
		return false;
	config = member(node, "Config");
	name = text_at(node, "Name");
	take_keys(c, member(config, "Labels")); /* of a pod's container this is the name that people know */
	set(c, &c->info.name, name && *name == '/' ? name + 1 : name);
	set(c, &c->info.image, text_at(config, "Image"));
	set(c, &c->info.image_id, text_at(node, "Image"));
	take_labels(c, member(config, "Labels"));
	snprintf(path, sizeof path, "%s/%s/hostconfig.json", folder, c->id);
	privileged = text_at(read_json(&host_tree, path), "Privileged");
	c->info.privileged_known = privileged != NULL;
	c->info.privileged = privileged && !strcmp(privileged, "true");
	return true;
}

static bool read_bundle(struct container *c, const char *path)
{
	_cleanup_(free_tree) struct yaml_tree *tree = NULL;
	const struct yaml_node *node = read_json(&tree, path), *annotations = member(node, "annotations");
	const char *privileged = text_at(annotations, "io.podman.annotations.privileged");

	if (!node)
		return false;
	take_keys(c, annotations);
	if (text_at(annotations, "io.container.manager")) { /* podman says it where it is so */
		c->info.privileged_known = true;
		c->info.privileged = privileged && !strcasecmp(privileged, "true");
	}
	return true;
}

static bool read_containerd(const struct runtimes *r, struct container *c)
{
	static const char *const folders[] = { "/run/containerd", "/run/k3s/containerd" };
	static const char *const spaces[] = { "k8s.io", "default", "moby" };
	char path[PATH_ROOM];

	for (size_t f = 0; f < ARRAY_SIZE(folders); f++)
		for (size_t s = 0; s < ARRAY_SIZE(spaces); s++) {
			snprintf(path, sizeof path, "%s%s/io.containerd.runtime.v2.task/%s/%s/config.json", r->root,
				 folders[f], spaces[s], c->id);
			if (read_bundle(c, path))
				return true;
		}
	return false;
}

static const struct yaml_node *item_of(const struct yaml_node *list, const char *id)
{
	for (const struct yaml_edge *e = list && list->kind == YAML_IS_SEQUENCE ? list->first : NULL; e; e = e->next) {
		const char *one = text_at(e->node, "id");

		if (one && !strcmp(one, id))
			return e->node;
	}
	return NULL;
}

/* Where CRI-O and podman keep what outlives a boot. Their configuration is TOML, of which this is one line: graphroot = "/path". */
static void find_storage(const struct runtimes *r, char *folder, size_t size)
{
	_cleanup_(free_pointer) char *text = NULL;
	char path[PATH_ROOM], *rest, *line;

	snprintf(folder, size, "/var/lib/containers/storage");
	snprintf(path, sizeof path, "%s/etc/containers/storage.conf", r->root);
	if (read_small_file(path, FILE_MAX, &text, NULL) < 0)
		return;
	for (rest = text; (line = strsep(&rest, "\n"));) {
		char root[PATH_ROOM - 256];

		if (sscanf(line, " graphroot = \"%511[^\"]\"", root) == 1 && *root == '/')
			snprintf(folder, size, "%s", root);
	}
}

/* The list of all containers has what the bundle of podman's has not. */
static bool read_list(const struct runtimes *r, struct container *c, const char *folder)
{
	_cleanup_(free_tree) struct yaml_tree *tree = NULL, *inner = NULL;
	const struct yaml_node *item, *names, *metadata;
	char path[PATH_ROOM];
	const char *text;

	snprintf(path, sizeof path, "%s%s/overlay-containers/containers.json", r->root, folder);
	item = item_of(read_json(&tree, path), c->id);
	if (!item)
		return false;
	text = text_at(item, "metadata"); /* JSON within JSON */
	metadata = text ? parse(&inner, text, strlen(text)) : NULL;
	names = member(item, "names");
	set(c, &c->info.name, text_at(metadata, "name"));
	set(c, &c->info.name,
	    names && names->kind == YAML_IS_SEQUENCE && names->first ? text_of(names->first->node) : NULL);
	set(c, &c->info.image, text_at(metadata, "image-name"));
	set(c, &c->info.image_id, text_at(item, "image"));
	return true;
}

static bool read_storage(const struct runtimes *r, struct container *c)
{
	char lasting[PATH_ROOM - 256 + 1], path[PATH_ROOM + 256];
	const char *const folders[] = { "/run/containers/storage", lasting };
	bool found = false;

	find_storage(r, lasting, sizeof lasting);
	for (size_t f = 0; f < ARRAY_SIZE(folders) && !found; f++) {
		snprintf(path, sizeof path, "%s%s/overlay-containers/%s/userdata/config.json", r->root, folders[f],
			 c->id);
		found = read_bundle(c, path);
	}
	return read_list(r, c, lasting) || found;
}

/* ---- the table ---- */

/* Nothing of it leads elsewhere in a path. */
static bool is_id(const char *id, size_t length)
{
	if (length == 0 || length > ID_MAX)
		return false;
	for (size_t i = 0; i < length; i++)
		if (!((id[i] >= '0' && id[i] <= '9') || (id[i] >= 'a' && id[i] <= 'z') ||
		      (id[i] >= 'A' && id[i] <= 'Z') || (i > 0 && (id[i] == '-' || id[i] == '_'))))
			return false;
	return true;
}

static struct container *place_of(struct runtimes *r, const char *id, size_t length)
{
	uint64_t h = 0xcbf29ce484222325ull;
	struct container *set, *oldest;

	for (size_t i = 0; i < length; i++)
		h = (h ^ (uint8_t)id[i]) * 0x100000001b3ull;
	set = r->containers[(h ^ h >> 32) % SETS];
	oldest = set;
	for (unsigned i = 0; i < WAYS; i++) {
		if (!strncmp(set[i].id, id, length) && !set[i].id[length])
			return &set[i];
		if (set[i].used < oldest->used)
			oldest = &set[i];
	}
	free(oldest->texts);
	*oldest = (struct container){ 0 };
	memcpy(oldest->id, id, length);
	return oldest;
}

static void look(const struct runtimes *r, struct container *c, uint64_t now)
{
	c->texts = malloc(RUNTIME_TEXT_MAX);
	c->pause = MIN_OF(c->pause ? 2 * c->pause : AGAIN_NS, AGAIN_MOST);
	c->again = now + c->pause;
	if (!c->texts)
		return;
	c->known = read_docker(r, c) || read_containerd(r, c) || read_storage(r, c);
	if (!c->known) {
		free(c->texts);
		c->texts = NULL;
	}
}

const struct runtime_info *runtimes_find(struct runtimes *r, const char *id, size_t length, uint64_t now)
{
	struct container *c;

	if (!is_id(id, length))
		return NULL;
	c = place_of(r, id, length);
	c->used = now;
	if (!c->known && now >= c->again)
		look(r, c, now);
	return c->known ? &c->info : NULL;
}

int runtimes_open(struct runtimes **ret, const char *root)
{
	struct runtimes *r = calloc(1, sizeof *r);

	if (!r)
		return -ENOMEM;
	if (strlen(root) >= sizeof r->root) {
		free(r);
		return -ENAMETOOLONG;
	}
	strcpy(r->root, root);
	*ret = r;
	return 0;
}

void runtimes_close(struct runtimes *r)
{
	if (!r)
		return;
	for (unsigned s = 0; s < SETS; s++)
		for (unsigned w = 0; w < WAYS; w++)
			free(r->containers[s][w].texts);
	free(r);
}
