/* sha256.c - content addresses by libcrypto's EVP interface, which picks the CPU's SHA
 * instructions.
 *
 * Left out: other digests; every address in sqz is a SHA-256. */
#include "hash/sha256.h"
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { READ_BYTES = 1 << 20 };

struct sha256 {
    EVP_MD_CTX *ctx;
};

static void require(int ok)
{
    if (!ok) memory_failed("a SHA-256 context");
}

sha256 *sha256_new(void)
{
    sha256 *h = malloc(sizeof *h);
    require(h != NULL);
    h->ctx = EVP_MD_CTX_new();
    require(h->ctx && EVP_DigestInit_ex(h->ctx, EVP_sha256(), NULL) == 1);
    return h;
}

void sha256_update(sha256 *h, const void *data, size_t bytes)
{
    if (bytes) require(EVP_DigestUpdate(h->ctx, data, bytes) == 1);
}

void sha256_final(sha256 *h, char digest[DIGEST_TEXT])
{
    static const char hex[] = "0123456789abcdef";
    unsigned char raw[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    require(EVP_DigestFinal_ex(h->ctx, raw, &n) == 1 && n == 32);
    memcpy(digest, "sha256:", 7);
    for (unsigned i = 0; i < n; i++) {
        digest[7 + 2 * i] = hex[raw[i] >> 4];
        digest[8 + 2 * i] = hex[raw[i] & 15];
    }
    digest[71] = 0;
    EVP_MD_CTX_free(h->ctx);
    free(h);
}

void sha256_buffer(const void *data, size_t bytes, char digest[DIGEST_TEXT])
{
    sha256 *h = sha256_new();
    sha256_update(h, data, bytes);
    sha256_final(h, digest);
}

sqz_status sha256_file(const char *path, char digest[DIGEST_TEXT], sqz_error *err)
{
    struct stat info;
    int fd =
        open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe without a writer would block */
    if (fd < 0) return err_set(err, SQZ_E_IO, "%s: cannot be opened: %s", path, strerror(errno));
    if (fstat(fd, &info) < 0 || !S_ISREG(info.st_mode)) {
        close(fd);
        return err_set(err, SQZ_E_IO, "%s: not a regular file", path);
    }
    (void)posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
    void *buffer = malloc(READ_BYTES);
    if (!buffer) {
        close(fd);
        return err_set(err, SQZ_E_NOMEM, "%s: no memory to read it", path);
    }
    sha256 *h = sha256_new();
    ssize_t got;
    while ((got = read(fd, buffer, READ_BYTES)) > 0 || (got < 0 && errno == EINTR))
        if (got > 0) sha256_update(h, buffer, (size_t)got);
    int saved = errno;
    char text[DIGEST_TEXT];
    sha256_final(h, text);
    free(buffer);
    close(fd);
    if (got < 0) return err_set(err, ERR_STORAGE, "%s: cannot be read: %s", path, strerror(saved));
    memcpy(digest, text, sizeof text);
    return SQZ_OK;
}

int digest_valid(const char *text)
{
    if (!text || strncmp(text, "sha256:", 7) != 0) return 0;
    return strspn(text + 7, "0123456789abcdef") == 64 && text[71] == 0;
}
