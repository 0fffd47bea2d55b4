/* sqz/plugin.h - everything a plugin and the host must agree on.
 *
 * A plugin is one shared object that exports one function, sqz_plugin_v1().  The function returns
 * a constant description; nothing else runs until the host opens an agent.  Every struct below
 * starts with struct_size and only ever grows at the end, so a plugin built today keeps loading
 * tomorrow.  Tables by kind (methods, evaluations, ...) live in the sibling headers.
 *
 * Thread tags close the comments: [scan] no logic allowed, [call] one call at a time per instance,
 * [any] may be called from several threads at once. */
#ifndef SQZ_PLUGIN_H
#define SQZ_PLUGIN_H

#include <stddef.h>
#include <stdint.h>

#define SQZ_ABI_MAJOR 1
#define SQZ_ABI_MINOR 1

#if defined(__GNUC__)
#  define SQZ_EXPORT __attribute__((visibility("default")))
#  define SQZ_STAMP __attribute__((section(".sqz.abi"), used))
#else
#  define SQZ_EXPORT
#  define SQZ_STAMP
#endif

#ifdef __cplusplus
#  define SQZ_ASSERT_ABI(cond, text) static_assert(cond, text)
extern "C" {
#else
#  define SQZ_ASSERT_ABI(cond, text) _Static_assert(cond, text)
#endif

/* True when the other side's struct is long enough to contain `field`. */
#define SQZ_HAS(ptr, type, field)                                                                  \
    ((ptr)->struct_size >= offsetof(type, field) + sizeof(((type *)0)->field))

/* No tail padding: a field appended later must change sizeof, or an old struct would seem to
 * contain it.  Also pins the size on LP64. */
#define SQZ_SEALED(type, last, bytes)                                                              \
    SQZ_ASSERT_ABI(sizeof(type) == offsetof(type, last) + sizeof(((type *)0)->last),               \
                   #type " padded");                                                               \
    SQZ_ASSERT_ABI(sizeof(type) == (bytes), #type " changed size")

/* ---- status -------------------------------------------------------------------------------- */

typedef int32_t sqz_status; /* 0 is success, negative is failure */
enum {
    SQZ_OK = 0,
    SQZ_E_INVALID = -1,     /* the caller broke the contract              */
    SQZ_E_UNSUPPORTED = -2, /* fine request, not for this model           */
    SQZ_E_NOMEM = -3,
    SQZ_E_IO = -4,
    SQZ_E_NUMERIC = -5,     /* NaN, singular, diverged                    */
    SQZ_E_CANCELLED = -6,   /* tick() said stop                           */
    SQZ_E_DEVICE = -7,
    SQZ_E_INTERNAL = -8
};

enum { SQZ_LOG_DEBUG = 0, SQZ_LOG_INFO = 1, SQZ_LOG_WARN = 2, SQZ_LOG_ERROR = 3 };

/* ---- typed parameters ---------------------------------------------------------------------- */

/* How a JSON value travels into a C argument.  Four shapes, no others: libffi then never sees
 * float, bool, enum, struct or varargs. */
enum {
    SQZ_INT = 1,   /* int64_t                                             */
    SQZ_REAL = 2,  /* double                                              */
    SQZ_BOOL = 3,  /* int32_t, 0 or 1                                     */
    SQZ_TEXT = 4,  /* const char *, valid for the call; default def_text  */
    SQZ_CHOICE = 5 /* a string of `choices` in JSON, its int32_t index in C */
};
enum { SQZ_SEARCH = 1u << 0, SQZ_LOG = 1u << 1, SQZ_REQUIRED = 1u << 2 };

typedef struct sqz_param {
    uint32_t struct_size;
    int32_t type;
    const char *name;     /* the JSON key                                          */
    const char *help;     /* one line, shown by `sqz plugin info`                  */
    const char *choices;  /* "a|b|c"; on an INT the legal values, "2|3|4|8"; or NULL */
    const char *def_text; /* default of a TEXT                                     */
    double def, lo, hi;
    uint32_t flags;
    uint32_t zero;
} sqz_param;
SQZ_SEALED(sqz_param, zero, 72);

/* A plain C function the host may call with arguments from the config.  It takes
 * (const sqz_host *, void *self, void *subject) and then one argument per row of params, and
 * returns sqz_status. */
typedef struct sqz_call {
    uint32_t struct_size;
    uint32_t n_params;
    uint32_t param_stride; /* sizeof(sqz_param) when built */
    uint32_t zero;
    const char *name;
    void (*fn)(void);
    const sqz_param *params;
} sqz_call;
SQZ_SEALED(sqz_call, params, 40);

/* ---- host services ------------------------------------------------------------------------- */

typedef struct sqz_host sqz_host;
struct sqz_host {
    uint32_t struct_size;
    uint32_t abi_minor;
    void *impl; /* the host's; plugins do not look */
    const char *version;

    /* msg is copied.  [any] */
    void (*log)(const sqz_host *, int32_t level, const char *msg);

    /* Remember why this call fails; returns code, so that
     * `return host->fail(host, SQZ_E_NUMERIC, "...")` reads naturally.  [call] */
    sqz_status (*fail)(const sqz_host *, sqz_status code, const char *msg);

    /* Report progress 0..1 and learn whether to stop: non-zero means clean up and return
     * SQZ_E_CANCELLED.  Cheap; never let 100 ms pass without it.  [call] */
    int32_t (*tick)(const sqz_host *, double done, const char *what);

    /* A service table such as "sqz.pool/1" (sqz/services.h), or NULL.  [any] */
    const void *(*service)(const sqz_host *, const char *id);
};
SQZ_SEALED(sqz_host, service, 56);

/* ---- agents and the plugin ----------------------------------------------------------------- */

typedef struct sqz_agent {
    uint32_t struct_size;
    int32_t rank;      /* among agents of one kind; 100 = normal */
    const char *id;    /* "org.sqz.rtn"                          */
    const char *kind;  /* "method/1", "hardware/1", "eval/1" ... */
    const char *name, *summary, *version, *license;
    const char *const *tags; /* NULL-terminated */

    /* Create and destroy one instance; both may be NULL.  [call] */
    sqz_status (*open)(const sqz_host *, void **self);
    void (*close)(const sqz_host *, void *self);

    const sqz_call *run;
    /* Optional interfaces by id, or NULL; static lifetime.  [any] */
    const void *(*extension)(const char *id);
} sqz_agent;
SQZ_SEALED(sqz_agent, extension, 96);

typedef struct sqz_plugin {
    uint32_t struct_size;
    uint16_t abi_major, abi_minor; /* headers it was built with   */
    uint16_t needs_minor, zero16;  /* oldest host it accepts      */
    uint32_t n_agents;
    uint32_t agent_stride, zero;
    const sqz_agent *agents;
} sqz_plugin;
SQZ_SEALED(sqz_plugin, agents, 32);

/* The one symbol.  Must not allocate, print or start threads.  [scan] */
SQZ_EXPORT const sqz_plugin *sqz_plugin_v1(void);

/* ---- one list, two uses -------------------------------------------------------------------- */

/* A plugin writes its parameters once as P(type, name, def, lo, hi, choices, flags, help).
 * SQZ_CALL declares the function from that list and builds the table from the same list: a
 * definition that disagrees does not compile.  For SQZ_TEXT `choices` is the default text.  (The
 * casts are for C++, where NULL is a number.) */
#define SQZ_CTYPE_SQZ_INT int64_t
#define SQZ_CTYPE_SQZ_REAL double
#define SQZ_CTYPE_SQZ_BOOL int32_t
#define SQZ_CTYPE_SQZ_TEXT const char *
#define SQZ_CTYPE_SQZ_CHOICE int32_t
#define SQZ_ARG(t, name, def, lo, hi, choices, flags, help) , SQZ_CTYPE_##t name
#define SQZ_ROW(t, name, def, lo, hi, choices, flags, help)                                        \
    {sizeof(sqz_param), t,  #name, help,                                                           \
     (t) == SQZ_TEXT ? (const char *)0 : (const char *)(choices),                                  \
     (t) == SQZ_TEXT ? (const char *)(choices) : (const char *)0, def, lo, hi, flags, 0},
#define SQZ_CALL(fname, PARAMS)                                                                    \
    static sqz_status fname(const sqz_host *, void *, void *PARAMS(SQZ_ARG));                      \
    static const sqz_param fname##_params[] = {PARAMS(SQZ_ROW)};                                   \
    static const sqz_call fname##_call = {                                                         \
        sizeof(sqz_call), (uint32_t)(sizeof fname##_params / sizeof fname##_params[0]),            \
        sizeof(sqz_param), 0, #fname, (void (*)(void))fname, fname##_params}

/* The stamp can be read from the file before any of its code runs. */
#define SQZ_PLUGIN_STAMP(needs) SQZ_STAMP static const char sqz_abi_stamp[] = "sqz-abi 1." #needs
#ifdef __cplusplus
}
#endif
#endif
