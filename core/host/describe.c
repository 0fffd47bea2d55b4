/* describe.c - see describe.h.
 *
 * Nothing of a plugin is trusted to be sensible here, but its pointers must be followed: that is
 * why a first look happens in a child process.  Left out: judging whether an agent is any good. */
#include "host/describe.h"
#include <dlfcn.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Sizes of ABI 1.0.  sizeof would grow with this program and refuse older plugins. */
enum { PLUGIN_1_0 = 32, AGENT_1_0 = 96, PARAM_1_0 = 72, CALL_1_0 = 40, MAX_TEXT = 4096 };

const sqz_agent *plugin_agent(const sqz_plugin *p, uint32_t i)
{
    return (const sqz_agent *)((const char *)p->agents + (size_t)i * p->agent_stride);
}

const sqz_param *call_param(const sqz_call *c, uint32_t i)
{
    return (const sqz_param *)((const char *)c->params + (size_t)i * c->param_stride);
}

sqz_status describe_entry(void *handle, const char *file, const sqz_plugin **out, sqz_error *err)
{
    const sqz_plugin *(*entry)(void) = NULL;
    void *symbol = dlsym(handle, "sqz_plugin_v1");
    if (!symbol) {
        for (int major = 2; major < 10; major++) {
            char name[32];
            snprintf(name, sizeof name, "sqz_plugin_v%d", major);
            if (dlsym(handle, name))
                return err_set(err, ERR_PLUGIN,
                               "%s: exports only %s, sqz %s speaks plugin ABI %d; install a build "
                               "of the plugin for ABI %d, or a newer sqz",
                               file, name, SQZ_VERSION, SQZ_ABI_MAJOR, SQZ_ABI_MAJOR);
        }
        return err_set(err, ERR_PLUGIN,
                       "%s: does not export sqz_plugin_v1; declare it with SQZ_EXPORT and keep it "
                       "visible",
                       file);
    }
    memcpy(&entry, &symbol, sizeof entry); /* ISO C has no cast from object to function pointer */
    *out = entry();
    return *out ? SQZ_OK : err_set(err, ERR_PLUGIN, "%s: sqz_plugin_v1 returned NULL", file);
}

/* ---- values of a parameter row
 * -------------------------------------------------------------------- */
static const char *type_name(int32_t type)
{
    switch (type) {
    case SQZ_INT: return "int";
    case SQZ_REAL: return "real";
    case SQZ_BOOL: return "bool";
    case SQZ_TEXT: return "text";
    case SQZ_CHOICE: return "choice";
    default: return NULL;
    }
}

/* "a|b|c" as an array, of numbers for an INT; NULL when a part is empty or no whole number. */
static cJSON *split_choices(const sqz_param *p)
{
    cJSON *list = cJSON_CreateArray();
    for (const char *at = p->choices;; at++) {
        char part[128], *end;
        size_t n = strcspn(at, "|");
        if (n == 0 || n >= sizeof part) break;
        memcpy(part, at, n);
        part[n] = 0;
        if (p->type == SQZ_INT) {
            double value = strtod(part, &end);
            if (*end || value != floor(value)) break;
            cJSON_AddItemToArray(list, cJSON_CreateNumber(value));
        } else {
            cJSON_AddItemToArray(list, cJSON_CreateString(part));
        }
        at += n;
        if (!*at) return list;
    }
    cJSON_Delete(list);
    return NULL;
}

static int number_listed(const cJSON *list, double x)
{
    const cJSON *item;
    cJSON_ArrayForEach(item, list) if (item->valuedouble == x) return 1;
    return 0;
}

/* Adds default, lo, hi and choices; returns what is wrong, or NULL. */
static const char *describe_values(const sqz_param *p, cJSON *row)
{
    cJSON *choices = NULL;
    if (p->choices && p->type != SQZ_TEXT) {
        if (p->type != SQZ_INT && p->type != SQZ_CHOICE) return "only INT and CHOICE take choices";
        if (!(choices = split_choices(p))) return "its choices do not parse as \"a|b|c\"";
        cJSON_AddItemToObject(row, "choices", choices);
    }
    if (p->type == SQZ_TEXT) {
        cJSON_AddStringToObject(row, "default", p->def_text ? p->def_text : "");
        return NULL;
    }
    if (p->type == SQZ_CHOICE) {
        if (!choices) return "a CHOICE needs choices";
        int n = cJSON_GetArraySize(choices);
        if (!(p->def >= 0 && p->def < n) || p->def != floor(p->def))
            return "its default is no index of choices";
        cJSON_AddStringToObject(row, "default",
                                cJSON_GetArrayItem(choices, (int)p->def)->valuestring);
        return NULL;
    }
    if (p->type == SQZ_BOOL) {
        if (p->def != 0 && p->def != 1) return "its default is neither 0 nor 1";
        cJSON_AddBoolToObject(row, "default", p->def != 0);
        return NULL;
    }
    if (!isfinite(p->def) || isnan(p->lo) || isnan(p->hi) || p->lo > p->hi)
        return "its range is empty";
    if (p->def < p->lo || p->def > p->hi) return "its default lies outside its range";
    if (p->type == SQZ_INT && p->def != floor(p->def)) return "its default is no whole number";
    if (choices && !number_listed(choices, p->def)) return "its default is none of its choices";
    if ((p->flags & SQZ_LOG) && p->lo <= 0) return "a LOG parameter needs a positive range";
    cJSON_AddNumberToObject(row, "default", p->def);
    json_add_num(row, "lo", p->lo);
    json_add_num(row, "hi", p->hi);
    return NULL;
}

static int text_ok(const char *s)
{
    return s && strnlen(s, MAX_TEXT) < MAX_TEXT;
}

static int key_ok(const char *s)
{
    if (!text_ok(s) || !*s || strlen(s) > 64) return 0;
    return strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789_") == strlen(s);
}

/* Reverse domain: lower-case parts joined by dots, at least two. */
static int id_ok(const char *s)
{
    if (!text_ok(s) || strlen(s) > 128 || !strchr(s, '.') || strstr(s, "..")) return 0;
    size_t n = strlen(s);
    return s[0] != '.' && s[n - 1] != '.' &&
           strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789_-.") == n;
}

static sqz_status describe_call(const sqz_call *call, cJSON *params, const char *agent,
                                sqz_error *err)
{
    if (call->struct_size < CALL_1_0 || !call->fn)
        return err_set(err, ERR_PLUGIN, "agent %s: its call table is too small or without function",
                       agent);
    if (call->n_params > CALL_MAX_PARAMS ||
        (call->n_params && (call->param_stride < PARAM_1_0 || !call->params)))
        return err_set(err, ERR_PLUGIN,
                       "agent %s: %u parameters with a stride of %u bytes; at most %d, at least %d "
                       "bytes",
                       agent, call->n_params, call->param_stride, CALL_MAX_PARAMS, PARAM_1_0);
    for (uint32_t i = 0; i < call->n_params; i++) {
        const sqz_param *p = call_param(call, i);
        if (p->struct_size < PARAM_1_0 || !key_ok(p->name) || !text_ok(p->help) ||
            !type_name(p->type))
            return err_set(err, ERR_PLUGIN,
                           "agent %s: parameter row %u is malformed (size %u, type %d); names are "
                           "lower-case words joined by _",
                           agent, i, p->struct_size, p->type);
        for (uint32_t k = 0; k < i; k++)
            if (!strcmp(call_param(call, k)->name, p->name))
                return err_set(err, ERR_PLUGIN, "agent %s: parameter \"%s\" is there twice", agent,
                               p->name);
        cJSON *row = cJSON_CreateObject();
        cJSON_AddItemToArray(params, row);
        cJSON_AddStringToObject(row, "name", p->name);
        cJSON_AddStringToObject(row, "type", type_name(p->type));
        cJSON_AddStringToObject(row, "help", p->help);
        const char *wrong = describe_values(p, row);
        if (wrong)
            return err_set(err, ERR_PLUGIN, "agent %s: parameter \"%s\": %s", agent, p->name,
                           wrong);
        cJSON *flags = cJSON_AddArrayToObject(row, "flags");
        if (p->flags & SQZ_SEARCH) cJSON_AddItemToArray(flags, cJSON_CreateString("search"));
        if (p->flags & SQZ_LOG) cJSON_AddItemToArray(flags, cJSON_CreateString("log"));
        if (p->flags & SQZ_REQUIRED) cJSON_AddItemToArray(flags, cJSON_CreateString("required"));
    }
    return SQZ_OK;
}

/* ---- extension tables
 * ----------------------------------------------------------------------------- */
/* Facts that the core decides by without loading the plugin. */
static int facts_method_steps(const void *table, cJSON *facts)
{
    const sqz_method_steps *t = table;
    if (!text_ok(t->form)) return 0;
    cJSON_AddNumberToObject(facts, "granularity", t->granularity);
    cJSON_AddNumberToObject(facts, "statistics", t->statistics);
    cJSON_AddStringToObject(facts, "form", t->form);
    return t->granularity == SQZ_PER_LINEAR;
}

static int facts_eval_match(const void *table, cJSON *facts)
{
    const sqz_eval_match *t = table;
    if (!text_ok(t->primary) || !t->match) return 0;
    cJSON_AddStringToObject(facts, "primary", t->primary);
    cJSON_AddBoolToObject(facts, "higher_is_better", t->higher_is_better != 0);
    return 1;
}

static int facts_search(const void *table, cJSON *facts)
{
    const sqz_search *t = table;
    (void)facts;
    return t->space && t->ask && t->tell;
}

static int facts_format(const void *table, cJSON *facts)
{
    const sqz_format *t = table;
    cJSON_AddBoolToObject(facts, "exports", t->check && t->export_model);
    cJSON_AddBoolToObject(facts, "imports", t->probe && t->import_linear);
    return (t->check && t->export_model) || (t->probe && t->import_linear);
}

static int facts_hardware(const void *table, cJSON *facts)
{
    const sqz_hardware *t = table;
    (void)facts;
    return t->describe && t->alloc && t->release && t->map && t->upload && t->download && t->sync;
}

static int facts_tracker(const void *table, cJSON *facts)
{
    const sqz_tracker *t = table;
    (void)facts;
    return t->begin && t->event;
}

/* ".wet|.warc.wet" as a list; 0 when it is no such text. */
static int add_endings(const char *endings, cJSON *facts)
{
    cJSON *list = cJSON_AddArrayToObject(facts, "endings");
    for (const char *p = endings ? endings : ""; *p;) {
        size_t n = strcspn(p, "|");
        if (n < 2 || n > 32 || *p != '.' || cJSON_GetArraySize(list) == 32) return 0;
        for (size_t i = 0; i < n; i++)
            if (p[i] <= ' ' || p[i] > '~' || p[i] == '/' || (p[i] >= 'A' && p[i] <= 'Z')) return 0;
        char ending[40];
        snprintf(ending, sizeof ending, "%.*s", (int)n, p);
        cJSON_AddItemToArray(list, cJSON_CreateString(ending));
        p += n + (p[n] == '|');
    }
    return 1;
}

static int facts_data(const void *table, cJSON *facts)
{
    const sqz_data *t = table;
    int named = (t->flags & SQZ_DATA_NAMED) != 0;
    if (!t->next || !t->example || t->example_bytes < 1 || t->example_bytes > (64 << 10) ||
        !add_endings(t->endings, facts))
        return 0;
    cJSON_AddBoolToObject(facts, "probes", t->probe != NULL);
    cJSON_AddBoolToObject(facts, "named", named);
    return 1;
}

/* Extension ids the host knows, the kind that must offer each, and the table's size when it was
 * released. */
static const struct known_extension {
    const char *id, *kind;
    uint32_t bytes;
    int needs_run;
    int (*facts)(const void *table, cJSON *facts); /* 0: the table is incomplete */
} known[] = {
    {SQZ_METHOD_STEPS_1, "method/1", 24, 1, facts_method_steps},
    {SQZ_EVAL_MATCH_1, "eval/1", 32, 1, facts_eval_match},
    {SQZ_SEARCH_1, "search/1", 32, 0, facts_search},
    {SQZ_FORMAT_1, "format/1", 40, 0, facts_format},
    {SQZ_HARDWARE_1, "hardware/1", 216, 0, facts_hardware},
    {SQZ_TRACKER_1, "tracker/1", 40, 0, facts_tracker},
    {SQZ_DATA_1, "data/1", 48, 1, facts_data},
};

static sqz_status describe_extensions(const sqz_agent *a, cJSON *extensions, sqz_error *err)
{
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        int own_kind = !strcmp(a->kind, known[i].kind);
        const void *table = a->extension ? a->extension(known[i].id) : NULL;
        uint32_t bytes = 0;
        if (own_kind && (!table || (known[i].needs_run && !a->run)))
            return err_set(err, ERR_PLUGIN, "agent %s: kind %s must offer %s%s", a->id, a->kind,
                           table ? "a run function" : "extension ", table ? "" : known[i].id);
        if (!table) continue;
        memcpy(&bytes, table, sizeof bytes);
        if (bytes < known[i].bytes)
            return err_set(
                err, ERR_PLUGIN,
                "agent %s: extension %s has %u bytes, at least %u are needed; set struct_size to "
                "sizeof the table",
                a->id, known[i].id, bytes, known[i].bytes);
        if (!known[i].facts(table, cJSON_AddObjectToObject(extensions, known[i].id)))
            return err_set(err, ERR_PLUGIN, "agent %s: extension %s is incomplete", a->id,
                           known[i].id);
    }
    return SQZ_OK;
}

/* ---- agents
 * ---------------------------------------------------------------------------------------- */
static sqz_status describe_agent(const sqz_agent *a, uint32_t index, cJSON *out, sqz_error *err)
{
    if (a->struct_size < AGENT_1_0)
        return err_set(err, ERR_PLUGIN, "agent %u: its table has %u bytes, ABI 1.0 has %d", index,
                       a->struct_size, AGENT_1_0);
    if (!id_ok(a->id))
        return err_set(err, ERR_PLUGIN,
                       "agent %u: its id is no reverse domain name such as org.example.name",
                       index);
    if (!text_ok(a->kind) || !text_ok(a->name) || !text_ok(a->summary) || !text_ok(a->version) ||
        !text_ok(a->license))
        return err_set(err, ERR_PLUGIN,
                       "agent %s: kind, name, summary, version and license must all be given",
                       a->id);
    cJSON_AddStringToObject(out, "id", a->id);
    cJSON_AddStringToObject(out, "kind", a->kind);
    cJSON_AddStringToObject(out, "name", a->name);
    cJSON_AddStringToObject(out, "summary", a->summary);
    cJSON_AddStringToObject(out, "version", a->version);
    cJSON_AddStringToObject(out, "license", a->license);
    cJSON_AddNumberToObject(out, "rank", a->rank);
    cJSON *tags = cJSON_AddArrayToObject(out, "tags");
    for (int i = 0; a->tags && a->tags[i] && i < 32; i++)
        if (text_ok(a->tags[i])) cJSON_AddItemToArray(tags, cJSON_CreateString(a->tags[i]));
    cJSON *params = cJSON_AddArrayToObject(out, "params");
    sqz_status status = a->run ? describe_call(a->run, params, a->id, err) : SQZ_OK;
    if (status) return status;
    return describe_extensions(a, cJSON_AddObjectToObject(out, "extensions"), err);
}

static sqz_status check_plugin(const sqz_plugin *p, const char *file, sqz_error *err)
{
    if (p->struct_size < PLUGIN_1_0)
        return err_set(err, ERR_PLUGIN, "%s: its plugin table has %u bytes, ABI 1.0 has %d", file,
                       p->struct_size, PLUGIN_1_0);
    if (p->abi_major != SQZ_ABI_MAJOR || p->needs_minor > SQZ_ABI_MINOR)
        return err_set(
            err, ERR_PLUGIN,
            "%s: built for plugin ABI %u.%u and needs %u.%u, sqz %s speaks %d.%d; install "
            "a matching build of the plugin, or a newer sqz",
            file, p->abi_major, p->abi_minor, p->abi_major, p->needs_minor, SQZ_VERSION,
            SQZ_ABI_MAJOR, SQZ_ABI_MINOR);
    if (p->n_agents < 1 || p->n_agents > PLUGIN_MAX_AGENTS || p->agent_stride < AGENT_1_0 ||
        !p->agents)
        return err_set(
            err, ERR_PLUGIN,
            "%s: offers %u agents with a stride of %u bytes; 1 to %d agents, at least %d "
            "bytes",
            file, p->n_agents, p->agent_stride, PLUGIN_MAX_AGENTS, AGENT_1_0);
    return SQZ_OK;
}

sqz_status describe_plugin(const sqz_plugin *p, const char *file, cJSON **out, sqz_error *err)
{
    char abi[32];
    sqz_status status = check_plugin(p, file, err);
    if (status) return status;
    cJSON *root = cJSON_CreateObject();
    snprintf(abi, sizeof abi, "%u.%u", p->abi_major, p->abi_minor);
    cJSON_AddStringToObject(root, "abi", abi);
    cJSON_AddNumberToObject(root, "needs", p->needs_minor);
    cJSON *agents = cJSON_AddArrayToObject(root, "agents");
    for (uint32_t i = 0; i < p->n_agents && !status; i++) {
        cJSON *agent = cJSON_CreateObject();
        cJSON_AddItemToArray(agents, agent);
        status = describe_agent(plugin_agent(p, i), i, agent, err);
    }
    if (status) {
        err_prefix(err, "%s", file);
        cJSON_Delete(root);
        return status;
    }
    *out = root;
    return SQZ_OK;
}
