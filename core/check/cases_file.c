/* cases_file.c - tests of the file, its loading and its description. */
#include "check/elf_file.h"
#include "check/probe.h"
#include "host/describe.h"
#include "host/stamp.h"
#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- the bytes ------------------------------------------------------------------------------- */
static void elf_host_arch(probe *p)
{
    plugin_stamp stamp;
    sqz_error err = {0};
    /* A missing stamp is the next test's matter. */
    if (stamp_read(p->file, &stamp, &err) && !strstr(err.text, "stamp")) FAIL(p, "%s", err.text);
}

static void stamp_present(probe *p)
{
    plugin_stamp stamp;
    sqz_error err = {0};
    if (stamp_read(p->file, &stamp, &err) || stamp_accept(&stamp, p->file, &err))
        FAIL(p, "%s", err.text);
    else
        PASS(p, "plugin ABI %d, needs minor %d", stamp.major, stamp.needs_minor);
}

static int is_linkers(const char *name)
{
    static const char *const own[] = {"_init",       "_fini",   "_edata",     "_end",
                                      "__bss_start", "__end__", "_bss_end__", "__bss_end__"};
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        if (strcmp(own[i], name) == 0) return 1;
    return strncmp(name, "__asan_", 7) == 0 || strncmp(name, "__odr_asan", 10) == 0;
}

static void exports_only_entry(probe *p)
{
    elf_facts f;
    sqz_error err = {0};
    int entry = 0;
    if (elf_read(p->file, &f, &err)) {
        FAIL(p, "%s", err.text);
        return;
    }
    for (int i = 0; i < f.n_symbols; i++) {
        const elf_symbol *y = &f.symbols[i];
        if (!y->defined || is_linkers(y->name)) continue;
        if (!strcmp(y->name, "sqz_plugin_v1"))
            entry = 1;
        else if (y->weak || y->unique) /* inline functions and templates of C++ */
            WARN(p, "also exports %.200s; link with -Wl,--version-script to hide it", y->name);
        else
            FAIL(p,
                 "also exports %.200s; compile with -fvisibility=hidden, so that two plugins "
                 "cannot meet in one name",
                 y->name);
    }
    if (!entry) FAIL(p, "does not export sqz_plugin_v1; mark it SQZ_EXPORT");
    elf_free(&f);
}

static void no_text_relocations(probe *p)
{
    elf_facts f;
    sqz_error err = {0};
    if (elf_read(p->file, &f, &err)) {
        FAIL(p, "%s", err.text);
        return;
    }
    if (f.text_relocations) FAIL(p, "its code must be patched when loaded; compile with -fPIC");
    elf_free(&f);
}

static void no_bundled_openmp(probe *p)
{
    elf_facts f;
    sqz_error err = {0};
    if (elf_read(p->file, &f, &err)) {
        FAIL(p, "%s", err.text);
        return;
    }
    for (int i = 0; i < f.n_needed; i++)
        if (strstr(f.needed[i], "libiomp") || !strncmp(f.needed[i], "libomp", 6))
            FAIL(p, "brings the OpenMP runtime %s beside the host's; use the service sqz.pool/1",
                 f.needed[i]);
    elf_free(&f);
}

/* ---- loading --------------------------------------------------------------------------------- */
static void *load(probe *p)
{
    plugin_stamp stamp;
    sqz_error err = {0};
    if (stamp_read(p->file, &stamp, &err) || stamp_accept(&stamp, p->file, &err)) {
        FAIL(p, "%s", err.text);
        return NULL;
    }
    probe_at(p, "loading");
    void *handle = dlopen(p->file, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (!handle) FAIL(p, "cannot be loaded: %s", dlerror());
    return handle;
}

/* The tables, or NULL after a verdict. */
static const sqz_plugin *tables_of(probe *p)
{
    const sqz_plugin *plugin = NULL;
    sqz_error err = {0};
    void *handle = load(p);
    if (!handle) return NULL;
    probe_at(p, "sqz_plugin_v1");
    if (describe_entry(handle, p->file, &plugin, &err)) FAIL(p, "%s", err.text);
    return plugin;
}

static void loads_now(probe *p)
{
    const sqz_plugin *plugin = tables_of(p);
    cJSON *described = NULL;
    sqz_error err = {0};
    if (!plugin) return;
    probe_at(p, "reading its tables");
    if (describe_plugin(plugin, p->file, &described, &err)) FAIL(p, "%s", err.text);
    cJSON_Delete(described);
}

/* Symbols that the plugin's own libraries do not have come from the host by luck. */
static void no_undefined(probe *p)
{
    elf_facts f;
    sqz_error err = {0};
    void *handle = load(p);
    if (!handle) return;
    if (elf_read(p->file, &f, &err)) {
        FAIL(p, "%s", err.text);
        return;
    }
    for (int i = 0; i < f.n_symbols; i++) {
        const elf_symbol *y = &f.symbols[i];
        if (y->defined || y->weak || !strncmp(y->name, "__asan", 6) ||
            !strncmp(y->name, "__ubsan", 7) || !strncmp(y->name, "__tsan", 6))
            continue;
        if (!dlsym(handle, y->name))
            FAIL(p, "uses %.200s, which none of its own libraries has; link the library it is from",
                 y->name);
    }
    elf_free(&f);
}

static int entries_of(const char *folder)
{
    int n = 0;
    DIR *d = opendir(folder);
    while (d && readdir(d)) n++;
    if (d) closedir(d);
    return n;
}

static void entry_is_pure(probe *p)
{
    struct stat said;
    int threads = entries_of("/proc/self/task"), files = entries_of("/proc/self/fd");
    if (!tables_of(p)) return;
    fflush(stdout);
    if (entries_of("/proc/self/task") != threads) FAIL(p, "starts a thread when loaded");
    if (entries_of("/proc/self/fd") != files) FAIL(p, "opens a file when loaded and keeps it");
    if (fstat(STDOUT_FILENO, &said) == 0 && said.st_size > 0) FAIL(p, "prints when loaded");
}

static void scan_fast(probe *p)
{
    double begin = clock_s();
    if (!tables_of(p)) return;
    double ms = 1e3 * (clock_s() - begin);
    if (ms > 100) WARN(p, "loading took %.0f ms; heavy libraries slow every start of sqz", ms);
    PASS(p, "%.1f ms", ms);
}

/* ---- description ----------------------------------------------------------------------------- */
static cJSON *describe(probe *p)
{
    const sqz_plugin *plugin = tables_of(p);
    cJSON *out = NULL;
    sqz_error err = {0};
    if (plugin && describe_plugin(plugin, p->file, &out, &err)) FAIL(p, "%s", err.text);
    return out;
}

static void ids_wellformed(probe *p)
{
    cJSON *d = describe(p);
    const cJSON *a, *b;
    cJSON_ArrayForEach(a, json_get(d, "agents"))
    {
        const char *id = json_str(a, "id", ""), *kind = json_str(a, "kind", "");
        const char *slash = strchr(kind, '/');
        if (!slash || strspn(slash + 1, "0123456789") != strlen(slash + 1) || !slash[1])
            FAIL(p, "%s: kind \"%.60s\" has no revision; write method/1", id, kind);
        for (b = a->next; b; b = b->next)
            if (!strcmp(id, json_str(b, "id", ""))) FAIL(p, "offers %s twice", id);
        if (!strncmp(id, "org.example.", 12))
            WARN(p, "%s: give it a name of a domain that is yours", id);
    }
    cJSON_Delete(d);
}

static void same_on_second_read(probe *p)
{
    cJSON *first = describe(p), *second = describe(p);
    char *a = first ? json_canonical(first) : NULL, *b = second ? json_canonical(second) : NULL;
    if (a && b && strcmp(a, b) != 0) FAIL(p, "its tables change between two readings");
    free(a);
    free(b);
    cJSON_Delete(first);
    cJSON_Delete(second);
}

static int is_utf8(const unsigned char *s)
{
    while (*s) {
        int more = *s < 0x80                 ? 0
                   : *s >= 0xc2 && *s < 0xe0 ? 1
                   : *s >= 0xe0 && *s < 0xf0 ? 2
                   : *s >= 0xf0 && *s < 0xf5 ? 3
                                             : -1;
        if (more < 0) return 0;
        for (s++; more > 0; more--, s++)
            if ((*s & 0xc0) != 0x80) return 0;
    }
    return 1;
}

static void check_strings(probe *p, const cJSON *item)
{
    if (cJSON_IsString(item)) {
        const char *s = item->valuestring;
        if (!is_utf8((const unsigned char *)s)) FAIL(p, "a text of its tables is no UTF-8");
        for (; *s; s++)
            if ((unsigned char)*s < ' ' || *s == 127)
                FAIL(p, "a text of its tables holds control characters");
    }
    const cJSON *child;
    cJSON_ArrayForEach(child, item) check_strings(p, child);
}

static void strings_utf8(probe *p)
{
    cJSON *d = describe(p);
    const cJSON *a;
    check_strings(p, d);
    cJSON_ArrayForEach(a, json_get(d, "agents"))
    {
        const char *id = json_str(a, "id", ""), *version = json_str(a, "version", "");
        if (!*json_str(a, "summary", "")) WARN(p, "%s: has no summary", id);
        if (strspn(version, "0123456789.") < 3 || !strchr(version, '.'))
            WARN(p, "%s: version \"%.40s\" is not like 1.0.0", id, version);
    }
    cJSON_Delete(d);
}

static void license_spdx(probe *p)
{
    cJSON *d = describe(p);
    const cJSON *a;
    cJSON_ArrayForEach(a, json_get(d, "agents"))
    {
        const char *l = json_str(a, "license", "");
        if (!*l ||
            strspn(l, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.+-() ") !=
                strlen(l))
            WARN(p, "%s: licence \"%.60s\" is no SPDX expression such as MIT",
                 json_str(a, "id", ""), l);
    }
    cJSON_Delete(d);
}

static void unknown_extension(probe *p)
{
    const sqz_plugin *plugin = tables_of(p);
    if (!plugin) return;
    for (uint32_t i = 0; i < plugin->n_agents; i++) {
        const sqz_agent *a = plugin_agent(plugin, i);
        if (!a->extension) continue;
        probe_at(p, "extension of %s for an unknown id", a->id);
        if (a->extension("org.example.nobody-has-this/1") || a->extension(""))
            FAIL(p, "%s: answers for an extension that it cannot know", a->id);
    }
}

const check_case cases_file[] = {
    {"file", "elf-host-arch", NULL, TEST_FILE, 20, elf_host_arch,
     "a whole shared object for this machine"},
    {"file", "stamp-present", NULL, TEST_FILE, 20, stamp_present,
     "says its ABI before it is loaded"},
    {"file", "exports-only-entry", NULL, TEST_FILE, 20, exports_only_entry,
     "exports sqz_plugin_v1 and nothing else"},
    {"file", "no-text-relocations", NULL, TEST_FILE, 20, no_text_relocations,
     "its code needs no patching"},
    {"file", "no-bundled-openmp", NULL, TEST_FILE, 20, no_bundled_openmp,
     "brings no second thread runtime"},
    {"load", "loads-now-local", NULL, TEST_ONCE | TEST_LOADS, 20, loads_now,
     "can be loaded, and its tables keep the contract"},
    {"load", "no-undefined", NULL, TEST_ONCE, 20, no_undefined, "needs no symbol of the host"},
    {"load", "entry-is-pure", NULL, TEST_ONCE, 20, entry_is_pure,
     "loading prints nothing and starts nothing"},
    {"load", "scan-under-100ms", NULL, TEST_ONCE, 20, scan_fast, "loads quickly"},
    {"descriptor", "ids-wellformed", NULL, TEST_ONCE, 20, ids_wellformed,
     "ids are reverse domain names, kinds have a revision"},
    {"descriptor", "same-on-second-read", NULL, TEST_ONCE, 20, same_on_second_read,
     "its tables are constant"},
    {"descriptor", "strings-utf8", NULL, TEST_ONCE, 20, strings_utf8, "its texts are printable"},
    {"descriptor", "license-spdx", NULL, TEST_ONCE, 20, license_spdx, "says its licence"},
    {"descriptor", "unknown-extension-is-null", NULL, TEST_ONCE, 20, unknown_extension,
     "answers only for extensions that it has"},
    {NULL, NULL, NULL, 0, 0, NULL, NULL}};
