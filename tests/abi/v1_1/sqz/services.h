/* sqz/services.h - what the host offers to every plugin, as tables found by id:
 *     const sqz_pool *pool = (const sqz_pool *)host->service(host, SQZ_POOL_1);
 * A plugin asks for what it uses and says so plainly when one is missing.  Tables live as long as
 * the process.  Left out: tables that belong to one kind of plugin (method.h, eval.h, ...). */
#ifndef SQZ_SERVICES_H
#define SQZ_SERVICES_H
#include <sqz/plugin.h>
#ifdef __cplusplus
extern "C" {
#endif

/* ---- sqz.pool/1: the only threads a plugin uses --------------------------------------------- */
#define SQZ_POOL_1 "sqz.pool/1"
typedef struct sqz_pool {
    uint32_t struct_size;
    uint32_t zero;
    /* Threads of the pool, the caller included.  [any] */
    int32_t (*threads)(const sqz_host *);
    /* Calls body on disjoint ranges that cover [0, n), in chunks of at least `grain`, and returns
     * when all are done.  `thread` is 0..threads-1.  Nested calls run serially.  Which thread gets
     * which range is not fixed: bodies must not let the result depend on it.  [call] */
    void (*parallel_for)(const sqz_host *, int64_t n, int64_t grain,
                         void (*body)(void *arg, int64_t begin, int64_t end, int32_t thread),
                         void *arg);
} sqz_pool;
SQZ_SEALED(sqz_pool, parallel_for, 24);

/* ---- sqz.linalg/1: float32 matrices on the active hardware, row-major ------------------------ */
#define SQZ_LINALG_1 "sqz.linalg/1"
typedef struct sqz_linalg {
    uint32_t struct_size;
    uint32_t zero;
    /* C[m,n] = alpha * op(A) * op(B) + beta * C; ta/tb non-zero transposes; ld* are row strides in
     * elements.  [call] */
    sqz_status (*gemm)(const sqz_host *, int32_t ta, int32_t tb, int64_t m, int64_t n, int64_t k,
                       double alpha, const float *a, int64_t lda, const float *b, int64_t ldb,
                       double beta, float *c, int64_t ldc);
    /* In place: the symmetric positive definite A[n,n] becomes U, upper triangular with zeros
     * below, such that inverse(A) = U^T U (the factor GPTQ walks along).  SQZ_E_NUMERIC, A
     * undefined, when A is not positive definite; does not call fail().  [call] */
    sqz_status (*inverse_factor)(const sqz_host *, float *a, int64_t n);

    /* Since 1.1.  In place: the symmetric positive definite A[n,n], of which the lower triangle is
     * read, becomes L, lower triangular with zeros above, such that A = L^T L; half the work of
     * inverse_factor.  Errors as there.  [call] */
    sqz_status (*reverse_cholesky)(const sqz_host *, float *a, int64_t n);

    /* Since 1.1.  gemm without transposition, alpha 1, for terms that may be off by 2^-7 of each
     * product: A and B are rounded to bfloat16 where the backend multiplies that faster; sums and C
     * stay float32.  [call] */
    sqz_status (*gemm_rounded)(const sqz_host *, int64_t m, int64_t n, int64_t k, const float *a,
                               int64_t lda, const float *b, int64_t ldb, double beta, float *c,
                               int64_t ldc);
} sqz_linalg;
SQZ_SEALED(sqz_linalg, gemm_rounded, 40);

/* ---- sqz.rng/1: counter-based random numbers ------------------------------------------------- */
#define SQZ_RNG_1 "sqz.rng/1"
typedef struct sqz_rng {
    uint32_t struct_size;
    uint32_t zero;
    /* The index-th 64 random bits of the stream (seed, name): a pure function, so results do not
     * depend on threads or order.  [any] */
    uint64_t (*bits)(const sqz_host *, uint64_t seed, const char *name, uint64_t index);
} sqz_rng;
SQZ_SEALED(sqz_rng, bits, 16);

/* ---- sqz.clock/1 ----------------------------------------------------------------------------- */
#define SQZ_CLOCK_1 "sqz.clock/1"
typedef struct sqz_clock {
    uint32_t struct_size;
    uint32_t zero;
    double (*now_s)(const sqz_host *); /* monotonic seconds  [any] */
} sqz_clock;
SQZ_SEALED(sqz_clock, now_s, 16);

/* ---- sqz.http/1: requests through the host's one HTTP library -------------------------------- */
#define SQZ_HTTP_1 "sqz.http/1"
enum { SQZ_HTTP_INSECURE = 1u << 0 /* do not verify the server's certificate */ };

/* Strings and bodies are borrowed for the call. */
typedef struct sqz_http_request {
    uint32_t struct_size;
    uint32_t flags;
    const char *method; /* "GET", "POST", "PUT", "PATCH", "DELETE" */
    const char *url;    /* http or https, without user:password */
    const char *const *headers; /* "Name: value", NULL-terminated; or NULL */
    const void *body;           /* or NULL */
    int64_t body_bytes;
    const char *body_file; /* sent instead of body when not NULL, streamed */
    const char *user;      /* HTTP Basic, or NULL */
    const char *password;
    const char *ca_file;     /* PEM bundle instead of the system's, or NULL */
    const char *client_cert; /* PEM with key, or NULL */
    double connect_timeout_s; /* 0 = 5 */
    double timeout_s;         /* of the whole request, with body_file of a standstill; 0 = 30 */
    int64_t max_bytes;        /* of the answer; 0 = 16 MiB */
} sqz_http_request;
SQZ_SEALED(sqz_http_request, max_bytes, 112);

/* Owned by the host until release; set struct_size before the request. */
typedef struct sqz_http_response {
    uint32_t struct_size;
    int32_t status;    /* 200, 404 ... */
    const char *body;  /* zero-terminated */
    int64_t body_bytes;
    double retry_after_s; /* of the header, 0 = none */
    void *impl;
} sqz_http_response;
SQZ_SEALED(sqz_http_response, impl, 40);

typedef struct sqz_http {
    uint32_t struct_size;
    uint32_t zero;
    /* SQZ_OK when there is an answer, whatever its status.  SQZ_E_IO with a fail() text that holds
     * no header and no password: no connection, timeout, answer too long, a redirect to another
     * host.  SQZ_E_UNSUPPORTED: offline mode, or no HTTP library here.  SQZ_E_CANCELLED: tick()
     * said stop; it is asked several times a second.  [call] */
    sqz_status (*request)(const sqz_host *, const sqz_http_request *, sqz_http_response *);
    void (*release)(const sqz_host *, sqz_http_response *); /* [call] */
} sqz_http;
SQZ_SEALED(sqz_http, release, 24);

#ifdef __cplusplus
}
#endif
#endif
