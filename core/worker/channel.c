/* channel.c - see channel.h. */
#include "worker/channel.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { HEAD = 4 };

static size_t max_frame(const channel *c)
{
    return c->limit ? c->limit : CHANNEL_MAX_FRAME;
}

static int send_all(int fd, const uint8_t *p, size_t bytes)
{
    while (bytes > 0) {
        ssize_t n = send(fd, p, bytes, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return 0;
        p += n;
        bytes -= (size_t)n;
    }
    return 1;
}

int channel_send(channel *c, const cJSON *message)
{
    if (c->fd < 0) return 0;
    char *text = json_text(message, 0);
    size_t n = strlen(text);
    uint8_t head[HEAD];
    int sent = 0;
    if (n > 0 && n <= max_frame(c)) {
        for (int i = 0; i < HEAD; i++) head[i] = (uint8_t)(n >> (8 * i));
        sent = send_all(c->fd, head, HEAD) && send_all(c->fd, (const uint8_t *)text, n);
        if (!sent) channel_close(c);
    }
    free(text);
    return sent;
}

/* Reads what has arrived, as far as there is room for one frame. */
static void receive(channel *c)
{
    if (!c->bytes) {
        c->room = HEAD + max_frame(c);
        c->bytes = malloc(c->room);
        if (!c->bytes) c->room = 0;
    }
    while (c->fd >= 0 && c->have < c->room) {
        ssize_t n = recv(c->fd, c->bytes + c->have, c->room - c->have, MSG_DONTWAIT);
        if (n > 0) {
            c->have += (size_t)n;
            continue;
        }
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return;
        close(c->fd);
        c->fd = -1;
    }
}

cJSON *channel_take(channel *c)
{
    json_doc *doc = NULL;
    cJSON *message = NULL;
    receive(c);
    if (c->broken || c->have < HEAD) return NULL;
    size_t n = 0;
    for (int i = 0; i < HEAD; i++) n |= (size_t)c->bytes[i] << (8 * i);
    if (n == 0 || n > max_frame(c)) {
        c->broken = 1;
        return NULL;
    }
    if (c->have < HEAD + n) return NULL;
    sqz_status s = json_parse((const char *)c->bytes + HEAD, (int64_t)n, 0, "message", &doc, NULL);
    if (s == SQZ_E_NOMEM)
        return NULL; /* nothing of the sender's doing: it stays for the next look */
    if (!s && cJSON_IsObject(json_root(doc))) message = cJSON_Duplicate(json_root(doc), 1);
    if (!s) json_free(doc);
    c->have -= HEAD + n;
    memmove(c->bytes, c->bytes + HEAD + n, c->have);
    if (!message) c->broken = 1;
    return message;
}

void channel_close(channel *c)
{
    if (c->fd >= 0) close(c->fd);
    c->fd = -1;
}
