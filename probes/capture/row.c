/* SPDX-License-Identifier: Apache-2.0 */
#include "probes/capture/row.h"

#include <stddef.h>

#define PACKET_ROOM 32u /* of a packet's numbers and heads, at most */

_Static_assert(offsetof(struct capture_row, behind) == sizeof(struct packet_capture), "a row and what is behind it");
_Static_assert(sizeof(struct capture_row) < UINT16_MAX, "offsets of a record have 16 bits");

static uint16_t offset_of(const struct capture_row *row, const uint8_t *at)
{
	return (uint16_t)(at - (const uint8_t *)row);
}

static void put_trigger(struct capture_row *row, const char *trigger)
{
	size_t n = strnlen(trigger, CAPTURE_TRIGGER_MAX);

	row->row.trigger = (struct sonde_text){ offset_of(row, row->pack.at), (uint16_t)n };
	pack_raw(&row->pack, trigger, n);
}

void capture_row_begin(struct capture_row *row, const struct capture_head *head, uint32_t part)
{
	row->row = (struct packet_capture){ .event = head->event,
					    .laddr = head->key.laddr,
					    .raddr = head->key.raddr,
					    .lport = head->key.lport,
					    .rport = head->key.rport,
					    .protocol = head->key.protocol,
					    .reason = head->reason,
					    .part = part,
					    .request = head->request,
					    .event_seq = head->event_seq };
	row->pack = pack_over(row->behind, sizeof row->behind);
	if (head->trigger)
		put_trigger(row, head->trigger);
	row->array = pack_open_array(&row->pack);
}

bool capture_row_add(struct capture_row *row, uint64_t time, bool sent, uint32_t length, const void *bytes,
		     uint16_t captured)
{
	if (row->row.count == UINT16_MAX || (size_t)(row->pack.end - row->pack.at) < PACKET_ROOM + captured)
		return false;
	pack_array_header(&row->pack, 4);
	pack_uint(&row->pack, time);
	pack_bool(&row->pack, sent);
	pack_uint(&row->pack, length);
	pack_bin(&row->pack, bytes, captured);
	row->row.count++;
	return true;
}

struct packet_capture *capture_row_end(struct capture_row *row)
{
	uint16_t begin = offset_of(row, row->array), end = offset_of(row, row->pack.at);

	pack_close(&row->pack, row->array, row->row.count);
	row->row.packets = (struct sonde_text){ begin, (uint16_t)(end - begin) };
	row->row.event.size = end;
	return &row->row;
}
