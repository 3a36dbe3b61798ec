/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers as IANA names them. Source: https://www.iana.org/assignments/dns-parameters */
#include "dns/message.h"

struct code {
	uint16_t number;
	const char *text;
};

static const struct code types[] = {
	{ 1, "A" },           { 2, "NS" },      { 5, "CNAME" },   { 6, "SOA" },     { 11, "WKS" },    { 12, "PTR" },
	{ 13, "HINFO" },      { 15, "MX" },     { 16, "TXT" },    { 17, "RP" },     { 18, "AFSDB" },  { 24, "SIG" },
	{ 25, "KEY" },        { 28, "AAAA" },   { 29, "LOC" },    { 33, "SRV" },    { 35, "NAPTR" },  { 36, "KX" },
	{ 37, "CERT" },       { 39, "DNAME" },  { 41, "OPT" },    { 42, "APL" },    { 43, "DS" },     { 44, "SSHFP" },
	{ 45, "IPSECKEY" },   { 46, "RRSIG" },  { 47, "NSEC" },   { 48, "DNSKEY" }, { 49, "DHCID" },  { 50, "NSEC3" },
	{ 51, "NSEC3PARAM" }, { 52, "TLSA" },   { 53, "SMIMEA" }, { 55, "HIP" },    { 59, "CDS" },    { 60, "CDNSKEY" },
	{ 61, "OPENPGPKEY" }, { 62, "CSYNC" },  { 63, "ZONEMD" }, { 64, "SVCB" },   { 65, "HTTPS" },  { 99, "SPF" },
	{ 108, "EUI48" },     { 109, "EUI64" }, { 249, "TKEY" },  { 250, "TSIG" },  { 251, "IXFR" },  { 252, "AXFR" },
	{ 255, "ANY" },       { 256, "URI" },   { 257, "CAA" },   { 32768, "TA" },  { 32769, "DLV" },
};

static const struct code rcodes[] = {
	{ 0, "NOERROR" },  { 1, "FORMERR" },    { 2, "SERVFAIL" }, { 3, "NXDOMAIN" },  { 4, "NOTIMP" },
	{ 5, "REFUSED" },  { 6, "YXDOMAIN" },   { 7, "YXRRSET" },  { 8, "NXRRSET" },   { 9, "NOTAUTH" },
	{ 10, "NOTZONE" }, { 11, "DSOTYPENI" }, { 16, "BADVERS" }, { 17, "BADKEY" },   { 18, "BADTIME" },
	{ 19, "BADMODE" }, { 20, "BADNAME" },   { 21, "BADALG" },  { 22, "BADTRUNC" }, { 23, "BADCOOKIE" },
};

static const char *find(const struct code *codes, size_t n, uint16_t number)
{
	for (size_t i = 0; i < n; i++)
		if (codes[i].number == number)
			return codes[i].text;
	return NULL;
}

const char *dns_type_text(uint16_t type, char room[DNS_CODE_TEXT_MAX])
{
	const char *text = find(types, ARRAY_SIZE(types), type);

	if (text)
		return text;
	snprintf(room, DNS_CODE_TEXT_MAX, "TYPE%u", type);
	return room;
}

const char *dns_rcode_text(uint16_t rcode, char room[DNS_CODE_TEXT_MAX])
{
	const char *text = find(rcodes, ARRAY_SIZE(rcodes), rcode);

	if (text)
		return text;
	snprintf(room, DNS_CODE_TEXT_MAX, "RCODE%u", rcode);
	return room;
}
