/* channel.h - messages between a worker and its parent: JSON objects with a length before them.
 *
 * A frame is a 32-bit little-endian byte count and that many bytes of JSON text, over one end of a
 * socketpair.  Child to parent: {"type":"hello"}, {"type":"agent","id","kind"},
 * {"type":"progress","done","what"}, {"type":"log","level","text"},
 * {"type":"unwritten","text"}.  Parent to child: {"type":"stop"}. */
#ifndef SQZ_CORE_WORKER_CHANNEL_H
#define SQZ_CORE_WORKER_CHANNEL_H
#include "error/error.h"
#include "json/json.h"

enum {
    CHANNEL_MAX_FRAME = 64 << 10,
    WORKER_NO_MEMORY = 71, /* exit status of a worker that had no memory for something of its own */
    WORKER_UNWRITTEN = 72 /* ... that could not write its result; the message "unwritten" says why */
};

typedef struct channel {
    int fd;    /* -1 when closed or never there */
    int broken; /* the other side sent something that is no frame */
    size_t limit; /* bytes of a frame; 0 = CHANNEL_MAX_FRAME */
    uint8_t *bytes; /* received, not yet taken */
    size_t have, room;
} channel;

/* Sends the object (borrowed) in one piece; 0 when the other side is gone.  Blocks while the socket is
 * full: the parent reads all the time. */
int channel_send(channel *, const cJSON *message);
/* The next message that has arrived (caller frees), or NULL when there is none yet, the other side is
 * gone (fd becomes -1), broken is set or there is no memory for it now.  Never blocks. */
cJSON *channel_take(channel *);
void channel_close(channel *);
#endif
