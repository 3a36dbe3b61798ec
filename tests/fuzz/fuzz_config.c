/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any bytes as a configuration file, and any line as a --set: loaded or refused with a sentence, never a crash, a leak or a
 * hang. What loads is read back whole. The first byte chooses which of the two the rest is.
 */
#include "config.h"
#include "settings.h"
#include "sonde/module.h"

#include <string.h>
#include <sys/mman.h>

extern const struct sonde_module sonde_module_cpu;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_back(const struct config *config)
{
	const char *const(*pairs)[2];
	struct fault fault;
	char digest[17];
	size_t n = config_map(config, "sinks.kafka.options", &pairs);

	for (size_t i = 0; i < n; i++) {
		if (strlen(pairs[i][0]) + strlen(pairs[i][1]) > 2 << 20)
			abort();
	}
	if (config_number(config, "modules.cpu.rate") - 1 > 998)
		abort();
	settings_check(config, &fault);
	config_digest(config, digest);
}

static int load_as_file(struct config **ret, const struct option_table *tables, size_t n, const uint8_t *data,
			size_t size, struct fault *fault)
{
	_cleanup_(close_fd) int fd = memfd_create("config", MFD_CLOEXEC);
	char path[32];

	if (fd < 0 || write_all(fd, data, size) < 0)
		return -1;
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	return config_load(ret, tables, n, path, NULL, 0, fault);
}

/* A file: value would make the fuzzer read this machine's files, and wait at a terminal. */
static bool names_a_file(const uint8_t *data, size_t size)
{
	return memmem(data, size, "file:", 5) != NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct settings *settings = NULL;
	struct config *config = NULL;
	struct fault fault = { 0 };
	const struct option_table cpu = { "cpu", sonde_module_cpu.summary, sonde_module_cpu.options };
	size_t n;
	int r;

	if (!size || names_a_file(data, size) || settings_make(&settings, &cpu, 1, &fault) < 0)
		return -1;

	const struct option_table *tables = settings_tables(settings, &n);

	if (data[0] & 1) {
		r = load_as_file(&config, tables, n, data + 1, size - 1, &fault);
	} else {
		_cleanup_(free_pointer) char *set = strndup((const char *)data + 1, size - 1);
		const char *sets[] = { set };

		r = config_load(&config, tables, n, NULL, sets, 1, &fault);
	}
	if (r < 0 && !*fault.text)
		abort(); /* refused without a word */
	if (r == 0)
		read_back(config);
	config_free(config);
	settings_free(settings);
	return 0;
}
