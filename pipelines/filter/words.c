/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The words of an expression, looked at before libpcap does. libpcap takes any word that it does not know for a host and asks
 * the resolver, which may wait for seconds and tells others what is watched. So a word has to be one of the language, a number or
 * an address; the name of a service right behind `port` becomes its number; the name of a protocol, with a backslash, may
 * stand right behind `proto`. Everything else is a mistake, with its column.
 *
 * The rule has to hold for what libpcap makes of the text, so words are cut here as its scanner cuts them (scanner.l: the
 * longest run of letters, digits, '.', '-' and '_'), and where the two could differ the text is refused.
 */
#include "filter/program.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <string.h>

#define SERVICES      "/etc/services"
#define SERVICES_MAX  (4u << 20)
#define WORD_MAX      63
#define NUMBER_DIGITS 10

static const char *const keywords[] = {
	"src", "dst", "host", "net", "mask", "port", "portrange", "proto", "protochain", "and", "or", "not", "less",
	"greater", "len", "length", "byte", "broadcast", "multicast", "link", "ether", "arp", "rarp", "ip", "ip6",
	"tcp", "udp", "sctp", "icmp", "icmp6", "igmp", "igrp", "pim", "vrrp", "carp", "ah", "esp", "vlan", "mpls",
	"pppoed", "pppoes", "geneve", "stp", "aarp", "atalk", "ipx", "netbeui", "iso", "isis", "esis", "clnp",
	/* of bytes by name, in tcp[tcpflags] and icmp[icmptype] */
	"tcpflags", "tcp-fin", "tcp-syn", "tcp-rst", "tcp-push", "tcp-ack", "tcp-urg", "tcp-ece", "tcp-cwr", "icmptype",
	"icmpcode", "icmp-echoreply", "icmp-unreach", "icmp-sourcequench", "icmp-redirect", "icmp-echo",
	"icmp-routeradvert", "icmp-routersolicit", "icmp-timxceed", "icmp-paramprob", "icmp-tstamp", "icmp-tstampreply",
	"icmp-ireq", "icmp-ireqreply", "icmp-maskreq", "icmp-maskreply", "icmp6type", "icmp6code", "icmp6-echo",
	"icmp6-echoreply", "icmp6-destinationunreach", "icmp6-packettoobig", "icmp6-timeexceeded",
	"icmp6-parameterproblem", "icmp6-routersolicit", "icmp6-routeradvert", "icmp6-neighborsolicit",
	"icmp6-neighboradvert", "icmp6-redirect"
};

struct scan {
	const char *text, *at;
	char *out; /* at least twice as long as the text, and 16 more: a number has at most 5 digits, a service one letter */
	size_t n_out;
	char word[WORD_MAX + 1], before[WORD_MAX + 1]; /* this word, and the one right before it, or "" */
	bool escaped;
	unsigned brackets; /* that are open */
	struct fault *fault;
};

static bool is_one_of(const char *word, const char *a, const char *b)
{
	return strcmp(word, a) == 0 || strcmp(word, b) == 0;
}

static bool is_keyword(const char *word)
{
	for (size_t i = 0; i < ARRAY_SIZE(keywords); i++)
		if (strcmp(keywords[i], word) == 0)
			return true;
	return false;
}

/* --- numbers and addresses --- */

static bool all_of(const char *word, int (*is)(int))
{
	if (!*word)
		return false;
	for (; *word; word++)
		if (!is((unsigned char)*word))
			return false;
	return true;
}

static bool is_number(const char *word)
{
	if (word[0] == '0' && (word[1] == 'x' || word[1] == 'X'))
		return strlen(word) <= 10 && all_of(word + 2, isxdigit);
	return strlen(word) <= NUMBER_DIGITS && all_of(word, isdigit);
}

/* 10, 10.1, 10.1.2, 10.1.2.3: the short ones are networks. */
static bool is_dotted(const char *word)
{
	unsigned parts = 0;

	for (;;) {
		size_t digits = strspn(word, "0123456789");

		if (digits == 0 || digits > 3 || ++parts > 4)
			return false;
		word += digits;
		if (!*word)
			return true;
		if (*word++ != '.')
			return false;
	}
}

/* 6000-6008 */
static bool is_range(const char *word)
{
	size_t first = strspn(word, "0123456789");

	return first && first <= 5 && word[first] == '-' && strlen(word + first + 1) <= 5 &&
	       all_of(word + first + 1, isdigit);
}

/* Six pairs of hexadecimal digits. */
static bool is_ethernet(const char *word)
{
	unsigned pairs = 0;

	for (;;) {
		size_t digits = strspn(word, "0123456789abcdefABCDEF");

		if (digits == 0 || digits > 2 || ++pairs > 6)
			return false;
		word += digits;
		if (!*word)
			return pairs == 6;
		if (*word++ != ':')
			return false;
	}
}

static bool is_address(const char *word)
{
	struct in6_addr unused;

	if (!strchr(word, ':'))
		return is_dotted(word);
	return is_ethernet(word) || (!strchr(word, '.') && inet_pton(AF_INET6, word, &unused) == 1);
}

/* --- services --- */

/* The number of a line "name number/protocol alias...", if it is about `name`; 0 otherwise. Ends the words of the line. */
static unsigned long line_port(char *line, const char *name)
{
	char *save, *first, *number, *end;
	unsigned long port;
	bool found;

	line[strcspn(line, "#")] = '\0';
	first = strtok_r(line, " \t\r", &save);
	number = first ? strtok_r(NULL, " \t\r", &save) : NULL;
	if (!number)
		return 0;
	found = strcmp(first, name) == 0;
	for (char *alias; !found && (alias = strtok_r(NULL, " \t\r", &save));)
		found = strcmp(alias, name) == 0;
	port = found ? strtoul(number, &end, 10) : 0;
	return port && port <= UINT16_MAX && *end == '/' ? port : 0;
}

/* -ENOENT: nobody knows it; -EEXIST: it stands for several numbers. */
static int service_port(const char *name, unsigned long *ret)
{
	_cleanup_(free_pointer) char *services = NULL;
	unsigned long port = 0;
	char *save, *line;
	size_t size;

	if (read_small_file(SERVICES, SERVICES_MAX, &services, &size) < 0)
		return -ENOENT;
	for (line = strtok_r(services, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		unsigned long found = line_port(line, name);

		if (found && port && found != port)
			return -EEXIST;
		port = found ? found : port;
	}
	*ret = port;
	return port ? 0 : -ENOENT;
}

/* --- the text --- */

static unsigned column_of(const struct scan *s, const char *at)
{
	return (unsigned)(at - s->text) + 1;
}

static void put(struct scan *s, const char *bytes, size_t n)
{
	memcpy(s->out + s->n_out, bytes, n);
	s->n_out += n;
}

static int put_service(struct scan *s, unsigned column)
{
	unsigned long port = 0;
	char digits[16];
	int r = service_port(s->word, &port);

	if (r == -EEXIST)
		return filter_fault(s->fault, -EINVAL, s->text, column,
				    "service '%s' has several numbers in " SERVICES "; write the one that is meant",
				    s->word);
	if (r < 0)
		return filter_fault(s->fault, -EINVAL, s->text, column,
				    "service '%s' is not in " SERVICES "; write its number", s->word);
	put(s, digits, (size_t)snprintf(digits, sizeof digits, "%lu", port));
	return 0;
}

static int unknown_word(const struct scan *s, unsigned column)
{
	const char *near = s->escaped ? NULL : nearest_name(s->word, keywords, ARRAY_SIZE(keywords));
	char meant[64] = "";

	if (near)
		snprintf(meant, sizeof meant, " (did you mean '%s'?)", near);
	return filter_fault(
		s->fault, -EINVAL, s->text, column,
		"'%s' is no word of the language, no number and no address%s; names of hosts are not looked "
		"up: write the address; a service's name stands right behind 'port', and '-' between spaces",
		s->word, meant);
}

/* Cuts the next word. Outside of [ ] a colon belongs to an address. */
static int take_word(struct scan *s, const char *begin)
{
	const char *end = begin;
	size_t n;

	while (isalnum((unsigned char)*end) || (*end && strchr("._-", *end)) || (*end == ':' && !s->brackets))
		end++;
	n = (size_t)(end - begin);
	if (n > WORD_MAX)
		return filter_fault(s->fault, -EINVAL, s->text, column_of(s, begin), "this word is too long");
	memcpy(s->word, begin, n);
	s->word[n] = '\0';
	s->at = end;
	return 0;
}

static int scan_word(struct scan *s)
{
	const char *begin = s->at + s->escaped;
	int r = take_word(s, begin);
	bool known;

	if (r < 0)
		return r;
	known = !s->escaped && (is_keyword(s->word) || is_number(s->word) || is_address(s->word) ||
				(strcmp(s->before, "portrange") == 0 && is_range(s->word)));
	if (!known && strcmp(s->before, "port") == 0 && !is_number(s->word))
		r = put_service(s, column_of(s, begin));
	else if (!known && !(s->escaped && is_one_of(s->before, "proto", "protochain") && all_of(s->word, isalnum)))
		r = unknown_word(s, column_of(s, begin));
	else
		put(s, begin - s->escaped, (size_t)(s->at - begin) + s->escaped);
	memcpy(s->before, s->word, sizeof s->before);
	return r;
}

static int scan_sign(struct scan *s)
{
	if (!strchr(" \t\r\n", *s->at))
		s->before[0] = '\0';
	if (!strchr(" \t\r\n()[]!&|=<>+-*/%^:", *s->at))
		return filter_fault(s->fault, -EINVAL, s->text, column_of(s, s->at),
				    "the language has no such character as '%c' (0x%02x)",
				    isprint((unsigned char)*s->at) ? *s->at : '?', (unsigned char)*s->at);
	s->brackets += *s->at == '[';
	s->brackets -= *s->at == ']' && s->brackets;
	put(s, s->at++, 1);
	return 0;
}

int filter_words(char **ret, const char *expression, struct fault *fault)
{
	_cleanup_(free_pointer) char *out = malloc(2 * strlen(expression) + 16);
	struct scan s = { .text = expression, .at = expression, .out = out, .fault = fault };
	int r = out ? 0 : -ENOMEM;

	while (r == 0 && *s.at) {
		s.escaped = *s.at == '\\' && isalnum((unsigned char)s.at[1]);
		if (s.escaped || isalnum((unsigned char)*s.at) || (*s.at == ':' && !s.brackets))
			r = scan_word(&s);
		else
			r = scan_sign(&s);
	}
	if (r < 0)
		return r;
	out[s.n_out] = '\0';
	*ret = out;
	out = NULL;
	return 0;
}
