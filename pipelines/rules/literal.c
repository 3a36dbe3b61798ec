/* SPDX-License-Identifier: Apache-2.0 */
#include "rules/literal.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <netdb.h>
#include <string.h>

#define NUMBER_MAX_BYTES 63u

/* "10s", "5ms", "64MiB": the suffixes overlap but for their case, and sizes are those with a capital. */
static bool parse_quantity(const char *text, uint64_t *ret)
{
	bool size = strpbrk(text, "BKMGT");

	if (size)
		return parse_size(text, ret) == 0 || parse_duration(text, ret) == 0;
	return parse_duration(text, ret) == 0 || parse_size(text, ret) == 0;
}

static bool parse_hex(const char *text, uint64_t *ret)
{
	char *end;

	if (text[0] != '0' || (text[1] | 32) != 'x' || !isxdigit((unsigned char)text[2]) || strlen(text) > 18)
		return false;
	*ret = strtoull(text, &end, 16);
	return !*end;
}

/* As a number, where it looks like one. */
static void classify(struct literal *l)
{
	char text[NUMBER_MAX_BYTES + 1], *end;
	size_t sign;
	uint64_t number;

	l->kind = LITERAL_TEXT;
	if (l->length == 0 || l->length > NUMBER_MAX_BYTES)
		return;
	memcpy(text, l->text, l->length);
	text[l->length] = '\0';
	sign = *text == '-' || *text == '+';
	if (!isdigit((unsigned char)text[sign]))
		return;
	if (parse_quantity(text + sign, &number) || parse_hex(text + sign, &number)) {
		l->kind = LITERAL_WHOLE;
		l->whole = *text == '-' ? -(__int128)number : (__int128)number;
	} else if (strspn(text, "-+.0123456789eE") == l->length) {
		double fraction = strtod(text, &end);

		if (!*end) {
			l->kind = LITERAL_FRACTION;
			l->fraction = fraction;
		}
	}
}

static int refuse(const struct literal *l, const char *wanted, struct fault *fault)
{
	return fault_set(fault, -EINVAL, "expected %s, found '%.*s'", wanted, (int)MIN_OF(l->length, 40u), l->text);
}

static int read_number(struct literal *l, bool fraction, struct fault *fault)
{
	classify(l);
	if (l->kind == LITERAL_WHOLE || (fraction && l->kind == LITERAL_FRACTION))
		return 0;
	return refuse(l, "a number", fault);
}

/* A number, or the name of a service of /etc/services. */
static int read_port(struct literal *l, struct fault *fault)
{
	char name[32], room[1024];
	struct servent entry, *found = NULL;

	classify(l);
	if (l->kind == LITERAL_WHOLE && l->whole >= 0 && l->whole <= 65535)
		return 0;
	if (l->length == 0 || l->length >= sizeof name || !isalpha((unsigned char)*l->text))
		return refuse(l, "a port (0 to 65535)", fault);
	memcpy(name, l->text, l->length);
	name[l->length] = '\0';
	if (getservbyname_r(name, NULL, &entry, room, sizeof room, &found) != 0 || !found)
		return refuse(l, "a port (0 to 65535) or the name of a service in /etc/services", fault);
	l->kind = LITERAL_WHOLE;
	l->whole = ntohs((uint16_t)found->s_port);
	return 0;
}

bool address_read(const char *text, size_t length, uint8_t ret[16], bool *ret_four)
{
	char room[INET6_ADDRSTRLEN];

	if (length >= sizeof room)
		return false;
	memcpy(room, text, length);
	room[length] = '\0';
	*ret_four = !strchr(room, ':');
	if (!*ret_four)
		return inet_pton(AF_INET6, room, ret) == 1;
	memcpy(ret, "\0\0\0\0\0\0\0\0\0\0\xff\xff", 12);
	return inet_pton(AF_INET, room, ret + 12) == 1;
}

static bool parse_bits(const char *text, size_t length, unsigned most, unsigned *ret)
{
	unsigned n = 0;

	if (length == 0 || length > 3)
		return false;
	for (size_t i = 0; i < length; i++) {
		if (!isdigit((unsigned char)text[i]))
			return false;
		n = n * 10 + (unsigned)(text[i] - '0');
	}
	*ret = n;
	return n <= most;
}

static int read_network(struct literal *l, bool network, struct fault *fault)
{
	const char *slash = network ? memchr(l->text, '/', l->length) : NULL;
	size_t length = slash ? (size_t)(slash - l->text) : l->length;
	uint8_t address[16];
	unsigned bits = 0;
	bool four;

	if (!address_read(l->text, length, address, &four)) {
		if (!network && memchr(l->text, '/', l->length))
			return refuse(
				l,
				"an address; networks are compared with fd.net, fd.cnet, fd.snet, fd.lnet and fd.rnet",
				fault);
		return refuse(l, network ? "an address or a network such as 10.0.0.0/8" : "an address", fault);
	}
	bits = four ? 32 : 128;
	if (slash && !parse_bits(slash + 1, l->length - length - 1, bits, &bits))
		return refuse(l, "a network such as 10.0.0.0/8", fault);
	l->kind = LITERAL_NETWORK;
	memcpy(l->network.address, address, sizeof address);
	l->network.bits = bits + (four ? 96 : 0);
	return 0;
}

static int read_truth(struct literal *l, struct fault *fault)
{
	if ((l->length == 4 && memcmp(l->text, "true", 4) == 0) || (l->length == 5 && memcmp(l->text, "false", 5) == 0))
		return 0;
	return refuse(l, "true or false", fault);
}

static int check_hex(struct literal *l, struct fault *fault)
{
	for (uint32_t i = 0; i < l->length; i++)
		if (!isxdigit((unsigned char)l->text[i]))
			return refuse(l, "bytes in hexadecimal, such as CAFE00", fault);
	return l->length == 0 || l->length % 2 ? refuse(l, "bytes in hexadecimal, two digits each", fault) : 0;
}

int literal_read(struct literal *ret, const struct syntax_word *word, enum rule_type type, enum rule_operator op,
		 struct fault *fault)
{
	*ret = (struct literal){ .kind = LITERAL_TEXT, .text = word->text, .length = word->length };
	if (op == OP_BCONTAINS || op == OP_BSTARTSWITH)
		return check_hex(ret, fault);
	switch (type) {
	case RULE_TYPE_NUMBER:
	case RULE_TYPE_FRACTION:
		return read_number(ret, type == RULE_TYPE_FRACTION, fault);
	case RULE_TYPE_PORT:
		return read_port(ret, fault);
	case RULE_TYPE_TRUTH:
		return read_truth(ret, fault);
	case RULE_TYPE_ADDRESS:
	case RULE_TYPE_NETWORK:
		return read_network(ret, type == RULE_TYPE_NETWORK, fault);
	case RULE_TYPE_ANY:
		if (!word->quoted && (op <= OP_MORE_EQUAL || op == OP_IN || op == OP_INTERSECTS))
			classify(ret);
		return 0;
	default:
		return 0;
	}
}
