/* task.c - reading a task definition: see task.h.  docs/tasks.md describes the keys. */
#include "task/task.h"
#include "hash/sha256.h"
#include "json/json.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_LIST = 256, MAX_SHOTS = 1024, MAX_NEW = 65536, DEFAULT_NEW = 256 };

static const char *const keys[] = {"task",
                                   "group_alias",
                                   "output_type",
                                   "dataset_path",
                                   "dataset_name",
                                   "dataset_kwargs",
                                   "data_files",
                                   "training_split",
                                   "validation_split",
                                   "test_split",
                                   "fewshot_split",
                                   "doc_to_text",
                                   "doc_to_target",
                                   "doc_to_choice",
                                   "doc_to_contexts",
                                   "doc_to_gold",
                                   "count_text",
                                   "description",
                                   "target_delimiter",
                                   "fewshot_delimiter",
                                   "num_fewshot",
                                   "fewshot_config",
                                   "metric_list",
                                   "filter_list",
                                   "generation_kwargs",
                                   "steps",
                                   "columns",
                                   "metadata",
                                   "tag",
                                   "task_alias",
                                   "about"};

const char *const task_output_names[TASK_OUTPUTS] = {
    "multiple_choice", "loglikelihood", "loglikelihood_rolling",
    "generate_until",  "needle",        "long_perplexity"};

/* What a definition is read with. */
typedef struct reader {
    task *t;
    const cJSON *json, *steps;
    const char *member;
    sqz_error *err;
} reader;

static void rule_free(text_rule *r)
{
    text_template_free(r->text);
    text_steps_free(r->steps);
}

static void list_rule_free(list_rule *r)
{
    free(r->field);
    for (int i = 0; i < r->n; i++) rule_free(&r->items[i]);
    free(r->items);
    text_steps_free(r->steps);
}

static void text_list_free(text_list *l)
{
    for (int i = 0; i < l->n; i++) free(l->at[i]);
    free(l->at);
}

void task_free(task *t)
{
    if (!t) return;
    char *texts[] = {t->name,   t->where,   t->member,           t->dataset,
                     t->config, t->train,   t->revision,         t->validation,
                     t->test,   t->fewshot, t->target_delimiter, t->fewshot_delimiter};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) free(texts[i]);
    text_rule *rules[] = {&t->prompt, &t->target, &t->description, &t->counted, &t->gold_value};
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) rule_free(rules[i]);
    list_rule_free(&t->contexts);
    list_rule_free(&t->choices);
    list_rule_free(&t->gold_list);
    text_list_free(&t->metrics);
    text_list_free(&t->until);
    answers_free(t->judge);
    for (int i = 0; i < t->n_columns; i++) {
        free(t->columns[i].name);
        text_list_free(&t->columns[i].columns);
    }
    free(t->columns);
    cJSON_Delete(t->files);
    cJSON_Delete(t->patterns);
    free(t);
}

int task_is_text(const task *t)
{
    return t->output == TASK_NEEDLE || t->output == TASK_GROWTH;
}

const char *task_eval_split(const task *t)
{
    return t->test ? t->test : t->validation ? t->validation : t->train;
}

const char *task_shot_split(const task *t)
{
    return t->fewshot ? t->fewshot : t->train ? t->train : t->validation ? t->validation : t->test;
}

/* ---- pieces -------------------------------------------------------------------------------------
 */

static sqz_status no_memory(const reader *r)
{
    return err_set(r->err, SQZ_E_NOMEM, "%s: no memory", r->t->where);
}

/* The text with {{member}} replaced, malloc'd. */
static char *with_member(const char *text, const char *member)
{
    const char *mark = member ? strstr(text, "{{member}}") : NULL;
    char *out = NULL;
    if (!mark) return strdup(text);
    if (asprintf(&out, "%.*s%s%s", (int)(mark - text), text, member, mark + 10) < 0) return NULL;
    return out;
}

/* A text key, {{member}} replaced; absent or null leaves NULL. */
static sqz_status read_text(const reader *r, const char *key, char **out)
{
    const cJSON *v = json_get(r->json, key);
    if (!v || cJSON_IsNull(v)) return SQZ_OK;
    if (!cJSON_IsString(v))
        return err_set(r->err, ERR_USAGE, "%s: \"%s\" must be a text", r->t->where, key);
    *out = with_member(v->valuestring, r->member);
    return *out ? SQZ_OK : no_memory(r);
}

/* "template", or {"text": "template", "steps": "name" or [...]}. */
static sqz_status read_rule(const reader *r, const cJSON *v, const char *key, text_rule *out)
{
    char where[300];
    snprintf(where, sizeof where, "%s: %s", r->t->where, key);
    const cJSON *text = cJSON_IsObject(v) ? json_get(v, "text") : v;
    const cJSON *steps = cJSON_IsObject(v) ? json_get(v, "steps") : NULL;
    if (!cJSON_IsString(text))
        return err_set(r->err, ERR_USAGE, "%s must be a text, or {\"text\": ..., \"steps\": [...]}",
                       where);
    sqz_status st = text_template_new(text->valuestring, r->steps, where, &out->text, r->err);
    if (cJSON_IsString(steps)) steps = json_get(r->steps, steps->valuestring);
    if (!st && cJSON_IsObject(v) && json_get(v, "steps"))
        st = text_steps_new(steps, r->steps, where, &out->steps, r->err);
    return st;
}

static sqz_status read_key_rule(const reader *r, const char *key, text_rule *out)
{
    const cJSON *v = json_get(r->json, key);
    return v && !cJSON_IsNull(v) ? read_rule(r, v, key, out) : SQZ_OK;
}

/* ["template", ...], or {"field": "name of a list", "steps": ...}. */
static sqz_status read_list_rule(const reader *r, const cJSON *v, const char *key, list_rule *out)
{
    char where[300];
    snprintf(where, sizeof where, "%s: %s", r->t->where, key);
    if (cJSON_IsString(v) || (cJSON_IsObject(v) && cJSON_IsString(json_get(v, "field")))) {
        const cJSON *steps = cJSON_IsObject(v) ? json_get(v, "steps") : NULL;
        int given = steps != NULL;
        if (cJSON_IsString(steps)) steps = json_get(r->steps, steps->valuestring);
        out->field = strdup(cJSON_IsString(v) ? v->valuestring : json_str(v, "field", ""));
        if (!out->field) return no_memory(r);
        return given ? text_steps_new(steps, r->steps, where, &out->steps, r->err) : SQZ_OK;
    }
    int n = cJSON_IsArray(v) ? cJSON_GetArraySize(v) : 0;
    if (n < 1 || n > MAX_LIST)
        return err_set(r->err, ERR_USAGE,
                       "%s must be the name of a list field, {\"field\": ..., \"steps\": ...} or a "
                       "list of up to %d texts",
                       where, MAX_LIST);
    out->items = calloc((size_t)n, sizeof *out->items);
    if (!out->items) return no_memory(r);
    const cJSON *item;
    cJSON_ArrayForEach(item, v)
    {
        sqz_status st = read_rule(r, item, key, &out->items[out->n++]);
        if (st) return st;
    }
    return SQZ_OK;
}

static sqz_status add_text(const reader *r, text_list *l, const char *text)
{
    char **at = realloc(l->at, (size_t)(l->n + 1) * sizeof *at);
    if (!at) return no_memory(r);
    l->at = at;
    at[l->n] = strdup(text);
    return at[l->n] ? (l->n++, SQZ_OK) : no_memory(r);
}

static sqz_status read_text_list(const reader *r, const cJSON *v, const char *key, text_list *out)
{
    const cJSON *item;
    sqz_status st = SQZ_OK;
    if (cJSON_IsString(v)) return add_text(r, out, v->valuestring);
    if (v && !cJSON_IsArray(v))
        st = err_set(r->err, ERR_USAGE, "%s: \"%s\" must be a list of texts", r->t->where, key);
    cJSON_ArrayForEach(item, v)
    {
        if (st) break;
        st = cJSON_IsString(item) ? add_text(r, out, item->valuestring)
                                  : err_set(r->err, ERR_USAGE, "%s: \"%s\" must be a list of texts",
                                            r->t->where, key);
    }
    return st;
}

/* ---- parts of a definition ----------------------------------------------------------------------
 */

static sqz_status check_keys(const reader *r)
{
    const cJSON *item;
    enum { N = sizeof keys / sizeof *keys };
    cJSON_ArrayForEach(item, r->json)
    {
        int known = 0;
        for (int i = 0; i < N; i++) known |= !strcmp(item->string, keys[i]);
        if (known) continue;
        const char *near = json_nearest(item->string, keys, N);
        return err_set(r->err, ERR_USAGE,
                       "%s: \"%.60s\" is not a key of a task definition%s%s%s; docs/tasks.md lists "
                       "them",
                       r->t->where, item->string, near ? " (did you mean \"" : "", near ? near : "",
                       near ? "\"?)" : "");
    }
    return SQZ_OK;
}

static sqz_status read_output(const reader *r)
{
    const char *name = json_str(r->json, "output_type", "");
    for (int i = 0; i < TASK_OUTPUTS; i++)
        if (!strcmp(task_output_names[i], name)) {
            r->t->output = (task_output)i;
            return SQZ_OK;
        }
    return err_set(r->err, ERR_USAGE,
                   "%s: output_type is \"%.40s\"; it must be multiple_choice, loglikelihood, "
                   "loglikelihood_rolling, generate_until, needle or long_perplexity",
                   r->t->where, name);
}

static sqz_status read_names(const reader *r)
{
    task *t = r->t;
    struct {
        const char *key;
        char **to;
    } texts[] = {{"task", &t->name},
                 {"dataset_path", &t->dataset},
                 {"dataset_name", &t->config},
                 {"training_split", &t->train},
                 {"validation_split", &t->validation},
                 {"test_split", &t->test},
                 {"fewshot_split", &t->fewshot},
                 {"target_delimiter", &t->target_delimiter},
                 {"fewshot_delimiter", &t->fewshot_delimiter}};
    sqz_status st = SQZ_OK;
    for (size_t i = 0; i < sizeof texts / sizeof *texts && !st; i++)
        st = read_text(r, texts[i].key, texts[i].to);
    if (!st && !t->target_delimiter && !(t->target_delimiter = strdup(" "))) st = no_memory(r);
    if (!st && !t->fewshot_delimiter && !(t->fewshot_delimiter = strdup("\n\n"))) st = no_memory(r);
    if (!st && (!t->name || !*t->name || strpbrk(t->name, "/=,")))
        st = err_set(r->err, ERR_USAGE, "%s: \"task\" must be a name without / = ,", t->where);
    if (!st && !task_eval_split(t))
        st = err_set(r->err, ERR_USAGE, "%s: one of test_split and validation_split is needed",
                     t->where);
    return st;
}

/* What the harness passes on to load_dataset: {"revision": "...", "data_files": {split: pattern}}.
 */
static sqz_status read_files(const reader *r)
{
    const cJSON *kwargs = json_get(r->json, "dataset_kwargs"), *item;
    const cJSON *files = json_get(r->json, "data_files"),
                *patterns = json_get(kwargs, "data_files");
    task *t = r->t;
    cJSON_ArrayForEach(item, kwargs)
    {
        if (!strcmp(item->string, "revision") && cJSON_IsString(item)) continue;
        if (!strcmp(item->string, "data_files") && cJSON_IsObject(item)) continue;
        return err_set(
            r->err, ERR_USAGE,
            "%s: dataset_kwargs.%.60s is not built; \"revision\" is a text, \"data_files\" "
            "holds a pattern for each split",
            t->where, item->string);
    }
    cJSON_ArrayForEach(item, patterns) if (!cJSON_IsString(item)) return err_set(
        r->err, ERR_USAGE, "%s: dataset_kwargs.data_files.%.60s must be a text", t->where,
        item->string);
    const char *revision = json_str(kwargs, "revision", NULL);
    if (revision && !(t->revision = strdup(revision))) return no_memory(r);
    if (files && !(t->files = cJSON_Duplicate(files, 1))) return no_memory(r);
    if (patterns && !(t->patterns = cJSON_Duplicate(patterns, 1))) return no_memory(r);
    return SQZ_OK;
}

sqz_status task_pattern(const task *t, const char *split, char **out, sqz_error *err)
{
    const char *pattern = json_str(t->patterns, split, NULL);
    *out = pattern ? with_member(pattern, t->member) : NULL;
    return pattern && !*out ? err_set(err, SQZ_E_NOMEM, "task %s: no memory", t->name) : SQZ_OK;
}

static sqz_status read_shots(const reader *r)
{
    task *t = r->t;
    const cJSON *config = json_get(r->json, "fewshot_config"), *item;
    t->shots = json_int(r->json, "num_fewshot", 0);
    if (t->shots < 0 || t->shots > MAX_SHOTS)
        return err_set(r->err, ERR_USAGE, "%s: num_fewshot must be 0 ... %d", t->where, MAX_SHOTS);
    cJSON_ArrayForEach(item, config) if (strcmp(item->string, "sampler")) return err_set(
        r->err, ERR_USAGE, "%s: fewshot_config.%.60s is not built; only sampler is", t->where,
        item->string);
    const char *sampler = json_str(config, "sampler", "default");
    t->first_n = !strcmp(sampler, "first_n");
    if (!t->first_n && strcmp(sampler, "default"))
        return err_set(r->err, ERR_USAGE, "%s: sampler \"%.40s\"; use default or first_n", t->where,
                       sampler);
    return SQZ_OK;
}

/* {"index_of": "{{answerKey}}", "in": "choices.label" or [...]} */
static sqz_status read_index(const reader *r, const cJSON *v, const char *key)
{
    task *t = r->t;
    t->indexed = 1;
    if (!json_get(v, "index_of") || !json_get(v, "in"))
        return err_set(r->err, ERR_USAGE,
                       "%s: %s must be a text or {\"index_of\": ..., \"in\": ...}", t->where, key);
    sqz_status st = read_rule(r, json_get(v, "index_of"), key, &t->gold_value);
    return st ? st : read_list_rule(r, json_get(v, "in"), key, &t->gold_list);
}

static sqz_status read_texts(const reader *r)
{
    task *t = r->t;
    const cJSON *contexts = json_get(r->json, "doc_to_contexts");
    const cJSON *choice = json_get(r->json, "doc_to_choice");
    const cJSON *gold = json_get(r->json, contexts ? "doc_to_gold" : "doc_to_target");
    sqz_status st = read_key_rule(r, "doc_to_text", &t->prompt);
    if (!st) st = read_key_rule(r, "description", &t->description);
    if (!st) st = read_key_rule(r, "count_text", &t->counted);
    if (!st && contexts) st = read_list_rule(r, contexts, "doc_to_contexts", &t->contexts);
    if (!st && choice) st = read_list_rule(r, choice, "doc_to_choice", &t->choices);
    int index = t->output == TASK_CHOICE && cJSON_IsObject(gold) && !json_get(gold, "text");
    if (!st && index) st = read_index(r, gold, contexts ? "doc_to_gold" : "doc_to_target");
    if (!st && !index && contexts && gold) st = read_rule(r, gold, "doc_to_gold", &t->gold_value);
    if (!st && (contexts || !index)) st = read_key_rule(r, "doc_to_target", &t->target);
    if (st) return st;
    int has_list = t->output == TASK_CHOICE && (choice || contexts);
    if ((t->output == TASK_CHOICE) != has_list)
        return err_set(r->err, ERR_USAGE, "%s: a multiple_choice task needs doc_to_choice",
                       t->where);
    if (choice && t->output != TASK_CHOICE)
        return err_set(r->err, ERR_USAGE, "%s: doc_to_choice is for multiple_choice", t->where);
    if (contexts ? !gold || !t->target.text : !t->target.text && !t->indexed)
        return err_set(r->err, ERR_USAGE, "%s: doc_to_target%s is missing", t->where,
                       contexts ? " or doc_to_gold" : "");
    if (!contexts && !t->prompt.text && t->output != TASK_ROLLING && !task_is_text(t))
        return err_set(r->err, ERR_USAGE, "%s: doc_to_text is missing", t->where);
    return SQZ_OK;
}

static const char *const known_metrics[TASK_OUTPUTS][4] = {
    {"acc", "acc_norm", "acc_bytes", "exact_match"},
    {"perplexity", "acc"},
    {"word_perplexity", "byte_perplexity", "bits_per_byte"},
    {"exact_match"},
    {"acc", "exact_match", "error_rate"},
    {"perplexity", "error_rate"}};

static sqz_status read_metrics(const reader *r)
{
    task *t = r->t;
    const cJSON *item, *exact = NULL, *list = json_get(r->json, "metric_list");
    sqz_status st = SQZ_OK;
    cJSON_ArrayForEach(item, list)
    {
        const char *name = cJSON_IsString(item) ? item->valuestring : json_str(item, "metric", "");
        int known = 0;
        for (int i = 0; i < 4 && known_metrics[t->output][i]; i++)
            known |= !strcmp(known_metrics[t->output][i], name);
        if (!known)
            return err_set(r->err, ERR_USAGE, "%s: metric \"%.40s\" is not built for %s", t->where,
                           name, json_str(r->json, "output_type", ""));
        if (!strcmp(name, "exact_match")) exact = item;
        if (!st) st = add_text(r, &t->metrics, name);
    }
    for (int i = 0; !st && !list && i < (t->output == TASK_CHOICE ? 2 : 4); i++)
        if (known_metrics[t->output][i]) st = add_text(r, &t->metrics, known_metrics[t->output][i]);
    if (!st && t->output == TASK_GENERATE)
        st = answers_new(json_get(r->json, "filter_list"), exact, t->where, &t->judge, r->err);
    return st;
}

static sqz_status read_generation(const reader *r)
{
    task *t = r->t;
    static const char *const known[] = {"until", "max_gen_toks", "max_new_tokens", "do_sample",
                                        "temperature"};
    const cJSON *item, *g = json_get(r->json, "generation_kwargs");
    if (t->output != TASK_GENERATE) return SQZ_OK;
    cJSON_ArrayForEach(item, g)
    {
        int ok = 0;
        for (int i = 0; i < 5; i++) ok |= !strcmp(item->string, known[i]);
        if (!ok)
            return err_set(r->err, ERR_USAGE, "%s: generation_kwargs.%.60s is not built", t->where,
                           item->string);
    }
    if (json_bool(g, "do_sample", 0) || json_num(g, "temperature", 0) != 0)
        return err_set(r->err, ERR_USAGE,
                       "%s: generation is greedy; do_sample and temperature "
                       "must be false and 0",
                       t->where);
    t->max_new = json_int(g, "max_gen_toks", json_int(g, "max_new_tokens", DEFAULT_NEW));
    if (t->max_new < 1 || t->max_new > MAX_NEW)
        return err_set(r->err, ERR_USAGE, "%s: max_gen_toks must be 1 ... %d", t->where, MAX_NEW);
    sqz_status st = read_text_list(r, json_get(g, "until"), "until", &t->until);
    if (!st && !t->until.n) st = add_text(r, &t->until, t->fewshot_delimiter);
    return st;
}

static sqz_status read_columns(const reader *r)
{
    const cJSON *item, *columns = json_get(r->json, "columns");
    task *t = r->t;
    t->columns = calloc((size_t)cJSON_GetArraySize(columns) + 1, sizeof *t->columns);
    if (!t->columns) return no_memory(r);
    cJSON_ArrayForEach(item, columns)
    {
        column_list *c = &t->columns[t->n_columns++];
        c->name = strdup(item->string);
        sqz_status st = c->name ? read_text_list(r, item, "columns", &c->columns) : no_memory(r);
        if (st) return st;
    }
    return SQZ_OK;
}

static sqz_status fill(const reader *r)
{
    task *t = r->t;
    sqz_status st = check_keys(r);
    if (!st) st = read_output(r);
    if (!st) st = read_names(r);
    if (!st) st = read_files(r);
    if (!st) st = read_shots(r);
    if (!st) st = read_texts(r);
    if (!st) st = read_metrics(r);
    if (!st) st = read_generation(r);
    if (!st) st = read_columns(r);
    char *text = st ? NULL : json_canonical(r->json);
    if (!st && !text) st = no_memory(r);
    if (!st) sha256_buffer(text, strlen(text), t->digest);
    free(text);
    return st;
}

sqz_status task_parse(const cJSON *definition, const char *where, const char *member, task **out,
                      sqz_error *err)
{
    _Static_assert(sizeof((task *)0)->digest >= DIGEST_TEXT, "room for a digest");
    if (!cJSON_IsObject(definition))
        return err_set(err, ERR_USAGE, "%s: a task definition is an object", where);
    task *t = calloc(1, sizeof *t);
    reader r = {.t = t,
                .json = definition,
                .steps = json_get(definition, "steps"),
                .member = member,
                .err = err};
    if (!t) return err_set(err, SQZ_E_NOMEM, "%s: no memory", where);
    t->where = strdup(where);
    if (member) t->member = strdup(member);
    sqz_status st =
        t->where && (!member || t->member) ? fill(&r) : err_set(err, SQZ_E_NOMEM, "no memory");
    if (st)
        task_free(t);
    else
        *out = t;
    return st;
}
