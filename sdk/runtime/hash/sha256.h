/* sha256.h - content addresses: SHA-256 by libcrypto (which uses the CPU's instructions). */
#ifndef SQZ_RUNTIME_SHA256_H
#define SQZ_RUNTIME_SHA256_H
#include "error/error.h"

#define SHA256_HEX 65 /* 64 digits and the zero */
#define DIGEST_TEXT 72 /* "sha256:" + 64 digits + zero */

typedef struct sha256 sha256;
sha256 *sha256_new(void); /* aborts the process only when memory for the context is gone */
void sha256_update(sha256 *, const void *data, size_t bytes);
/* Writes "sha256:<hex>" and frees the context. */
void sha256_final(sha256 *, char digest[DIGEST_TEXT]);

void sha256_buffer(const void *data, size_t bytes, char digest[DIGEST_TEXT]);
sqz_status sha256_file(const char *path, char digest[DIGEST_TEXT], sqz_error *err);
/* Does the text have the form sha256:<64 lower-case hex digits>? */
int digest_valid(const char *text);
#endif
