/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finding modules: those carried in the program, identity first, then those of the folder, whose files are code that others wrote
 * and that the kernel will run: only what root alone could have put there is taken, and a refused one is left out whole.
 */
#include "module_state.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "modules.h"

#define OBJECT_SUFFIX ".bpf.o"
#define DROPPED_MAX   32 /* modules of the folder */
#define IMAGE_MOST    (16 << 20)

/* The companions linked in; weak, so that the table names what may exist. */
#define COMPANIONS(X)                                                                                                  \
	X(capture)                                                                                                     \
	X(cpu)                                                                                                         \
	X(cred) X(dns) X(drops) X(exec) X(file) X(kernel) X(offcpu) X(sched) X(syscalls) X(tcp) X(turnaround) X(udp)
#define COMPANION(name) extern const struct sonde_module sonde_module_##name __attribute__((weak));
COMPANIONS(COMPANION)
#undef COMPANION
#define COMPANION(name) { #name, &sonde_module_##name },
static const struct {
	const char *name;
	const struct sonde_module *companion;
} companions[] = { COMPANIONS(COMPANION) };
#undef COMPANION

static int module_add(struct loader *loader, const char *name, void *image, size_t size, bool owned, void *library,
		      const struct sonde_module *companion, struct fault *fault)
{
	struct module *m = &loader->modules[loader->n_modules];
	int r;

	if (strlen(name) >= sizeof m->name)
		return fault_set(fault, -ENAMETOOLONG, "module name '%s' is too long", name);
	*m = (struct module){ .loader = loader,
			      .number = (unsigned)loader->n_modules,
			      .image = image,
			      .image_size = size,
			      .owned = owned,
			      .library = library,
			      .companion = companion };
	snprintf(m->name, sizeof m->name, "%s", name);
	r = module_inspect(m, fault);
	if (r < 0)
		return r;
	loader->n_modules++;
	return 0;
}

static int add_builtin(struct loader *loader, struct fault *fault)
{
	for (int pass = 0; pass < 2; pass++)
		for (const struct builtin_object *b = builtin_objects; b->name; b++) {
			const struct sonde_module *companion = NULL;
			int r;

			if ((strcmp(b->name, "identity") == 0) == (pass == 1))
				continue;
			for (size_t i = 0; i < ARRAY_SIZE(companions); i++)
				if (!strcmp(companions[i].name, b->name))
					companion = companions[i].companion;
			r = module_add(loader, b->name, (void *)b->begin, (size_t)(b->end - b->begin), false, NULL,
				       companion, fault);
			if (r < 0)
				return r;
		}
	return 0;
}

/* Code of others runs with the agent's privileges: only root may have written it, and its folder. */
static int check_trust(int fd, const char *path, struct fault *fault)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return fault_set(fault, -errno, "%s: %s", path, strerror(errno));
	if (st.st_uid != 0)
		return fault_set(fault, -EPERM, "%s is refused: it belongs to user %u, not to root; chown root it",
				 path, st.st_uid);
	if (st.st_mode & (S_IWGRP | S_IWOTH))
		return fault_set(fault, -EPERM,
				 "%s is refused: others than root may write it (mode %04o); chmod go-w it", path,
				 st.st_mode & 07777);
	if (!S_ISDIR(st.st_mode) && !S_ISREG(st.st_mode))
		return fault_set(fault, -EPERM, "%s is refused: it is no regular file", path);
	return 0;
}

static int read_image(int fd, void **ret, size_t *ret_size)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) || st.st_size > IMAGE_MOST)
		return -EFBIG;
	char *image = malloc((size_t)st.st_size + 1);
	size_t got = 0;

	if (!image)
		return -ENOMEM;
	while (got < (size_t)st.st_size) {
		ssize_t n = pread(fd, image + got, (size_t)st.st_size - got, (off_t)got);

		if (n <= 0)
			break;
		got += (size_t)n;
	}
	*ret = image;
	*ret_size = got;
	return 0;
}

/* Where a link leads may change hands after it was looked at. */
static const char *refusal(int error)
{
	return error == ELOOP ? "it is a symbolic link; put the file itself there" : strerror(error);
}

static int open_trusted(int folder, const char *folder_path, const char *name, struct fault *fault)
{
	char path[512];
	int fd = openat(folder, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK), r;

	snprintf(path, sizeof path, "%s/%s", folder_path, name);
	if (fd < 0)
		return errno == ENOENT ? -ENOENT : fault_set(fault, -errno, "%s is refused: %s", path, refusal(errno));
	r = check_trust(fd, path, fault);
	if (r < 0) {
		close(fd);
		return r;
	}
	return fd;
}

static const char *companion_signature(const struct sonde_module *m)
{
	return !m                           ? "it has no sonde_module"
	       : m->abi != SONDE_MODULE_ABI ? "of another ABI"
	       : m->signature               ? m->signature
					    : "without a signature";
}

static int open_companion(int folder, const char *folder_path, const char *name, void **ret_library,
			  const struct sonde_module **ret, struct fault *fault)
{
	char file[64], link[40];
	const struct sonde_module *m;
	void *library;
	int fd;

	snprintf(file, sizeof file, "%s.so", name);
	fd = open_trusted(folder, folder_path, file, fault);
	if (fd == -ENOENT)
		return 0;
	if (fd < 0)
		return fd;
	snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	library = dlopen(link, RTLD_NOW | RTLD_LOCAL);
	close(fd);
	if (!library)
		return fault_set(fault, -ELIBBAD, "%s/%s: %s", folder_path, file, dlerror());
	m = dlsym(library, "sonde_module");
	if (!m || m->abi != SONDE_MODULE_ABI || !m->signature || strcmp(m->signature, SONDE_MODULE_SIGNATURE))
		fault_set(fault, -ELIBBAD,
			  "%s/%s is refused: it was built for another sonde (%.64s); rebuild it against the headers of "
			  "this one (%s)",
			  folder_path, file, companion_signature(m), SONDE_MODULE_SIGNATURE);
	else if (!m->name || strcmp(m->name, name))
		fault_set(fault, -ELIBBAD, "%s/%s is refused: it is the companion of '%.64s', not of '%s'", folder_path,
			  file, m->name ? m->name : "", name);
	else {
		*ret_library = library;
		*ret = m;
		return 0;
	}
	dlclose(library);
	return -ELIBBAD;
}

static int add_dropped(struct loader *loader, int folder, const char *file, struct fault *fault)
{
	const struct sonde_module *companion = NULL;
	void *library = NULL, *image = NULL;
	char name[64];
	size_t size = 0;
	int fd, r;

	snprintf(name, sizeof name, "%.*s", (int)(strlen(file) - strlen(OBJECT_SUFFIX)), file);
	for (size_t i = 0; i < loader->n_modules; i++)
		if (!strcmp(loader->modules[i].name, name))
			return fault_set(fault, -EEXIST, "%s/%s is refused: there is a module '%s' already",
					 loader->options.folder, file, name);
	fd = open_trusted(folder, loader->options.folder, file, fault);
	if (fd < 0)
		return fd;
	r = read_image(fd, &image, &size);
	close(fd);
	if (r < 0)
		return fault_set(fault, r, "%s/%s: %s", loader->options.folder, file, strerror(-r));
	r = open_companion(folder, loader->options.folder, name, &library, &companion, fault);
	if (r == 0) {
		struct fault why = { 0 };

		r = module_add(loader, name, image, size, true, library, companion, &why);
		if (r < 0)
			fault_set(fault, r, "%s/%s is refused: %s", loader->options.folder, file, why.text);
	}
	if (r < 0) {
		free(image);
		if (library)
			dlclose(library);
	}
	return r;
}

static bool is_object_name(const char *name)
{
	size_t n = strlen(name);

	return n > strlen(OBJECT_SUFFIX) && !strcmp(name + n - strlen(OBJECT_SUFFIX), OBJECT_SUFFIX) && name[0] != '.';
}

/* The file's name is a part of configuration keys. */
static bool is_module_name(const char *file)
{
	size_t n = strspn(file, "abcdefghijklmnopqrstuvwxyz0123456789_-");

	return n && n <= NAME_MOST && !strcmp(file + n, OBJECT_SUFFIX);
}

static int is_object(const struct dirent *entry)
{
	return is_object_name(entry->d_name);
}

/* In the order of their names: of two that clash, it is always the same one that is refused. */
static void add_objects(struct loader *loader, int folder, struct fault *fault)
{
	size_t built_in = loader->n_modules;
	struct dirent **entries;
	int n = scandirat(folder, ".", &entries, is_object, alphasort);

	for (int i = 0; i < n; i++) {
		const char *file = entries[i]->d_name;
		int r;

		if (loader->n_modules - built_in == DROPPED_MAX)
			r = fault_set(fault, -E2BIG, "%s/%s is refused: there are %d modules in the folder already",
				      loader->options.folder, file, DROPPED_MAX);
		else if (!is_module_name(file))
			r = fault_set(fault, -EINVAL,
				      "%s/%s is refused: a module's name is at most %d of a-z, 0-9, _ and -",
				      loader->options.folder, file, NAME_MOST);
		else
			r = add_dropped(loader, folder, file, fault);
		if (r < 0)
			loader->notice(loader->context, fault->text);
		free(entries[i]);
	}
	if (n >= 0)
		free(entries);
}

static int add_folder(struct loader *loader, struct fault *fault)
{
	const char *path = loader->options.folder;
	_cleanup_(close_fd) int folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	struct stat st;

	if (folder < 0 && errno == ENOENT)
		return 0;
	if (folder < 0) /* of a link, ENOTDIR is what the two flags together give */
		return fault_set(fault, -errno, "agent.modules: %s: %s", path,
				 lstat(path, &st) == 0 && S_ISLNK(st.st_mode) ? refusal(ELOOP) : strerror(errno));
	if (check_trust(folder, path, fault) < 0)
		loader->notice(loader->context, fault->text);
	else
		add_objects(loader, folder, fault);
	return 0;
}

/* A salt that is the same for every agent of one boot, and differs from boot to boot and from host to host. */
static uint64_t boot_salt(void)
{
	_cleanup_(free_pointer) char *id = NULL;
	size_t size;

	if (read_small_file("/proc/sys/kernel/random/boot_id", 128, &id, &size) < 0)
		return 1;
	return hash_bytes(id, size);
}

int loader_open(struct loader **ret, const struct loader_options *options, struct schema *schema,
		void (*notice)(void *context, const char *text), void *context, struct fault *fault)
{
	size_t n = DROPPED_MAX;
	struct loader *loader = calloc(1, sizeof *loader);
	int r;

	if (!loader)
		return -ENOMEM;
	for (const struct builtin_object *b = builtin_objects; b->name; b++)
		n++;
	*loader = (struct loader){ .options = *options,
				   .schema = schema,
				   .notice = notice,
				   .context = context,
				   .boot = boot_salt(),
				   .cgroup_v1 = -1,
				   .lock = PTHREAD_MUTEX_INITIALIZER,
				   .modules = calloc(n, sizeof *loader->modules) };
	r = loader->modules ? kernel_types_open(&loader->types) : -ENOMEM;
	if (r == 0)
		r = add_builtin(loader, fault);
	if (r == 0 && options->folder && *options->folder)
		r = add_folder(loader, fault);
	if (r < 0) {
		loader_close(loader);
		return r;
	}
	*ret = loader;
	return 0;
}

void loader_close(struct loader *loader)
{
	if (!loader)
		return;
	for (size_t i = loader->n_modules; i-- > 0;) {
		struct module *m = &loader->modules[i];

		module_unload(m);
		module_forget_ahead(m);
		settings_rows_free(m->settings);
		hooks_free(m);
		if (m->owned)
			free(m->image);
		if (m->library)
			dlclose(m->library);
	}
	kernel_types_forget();
	kernel_types_close(loader->types);
	free(loader->modules);
	free(loader);
}

size_t loader_count(const struct loader *loader)
{
	return loader->n_modules;
}

struct module *loader_module(struct loader *loader, size_t index)
{
	return &loader->modules[index];
}

const char *module_name(const struct module *module)
{
	return module->name;
}

const char *module_summary(const struct module *module)
{
	return module->companion && module->companion->summary ? module->companion->summary : "";
}

const struct sonde_option *module_options(const struct module *module)
{
	static const struct sonde_option none[] = { { 0 } };

	if (module->companion && module->companion->options)
		return module->companion->options;
	return module->settings ? module->settings : none;
}

bool module_running(const struct module *module)
{
	return module->object != NULL;
}

bool module_filters_sockets(const struct module *module)
{
	return module->filters_sockets;
}

const struct sonde_module *module_companion(const struct module *module)
{
	return module->companion;
}
