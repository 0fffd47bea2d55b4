/* chat.c - finding a model's chat template and rendering conversations with it; see chat.h. */
#include "chat/chat.h"
#include "checkpoint/gguf.h"
#include "io/file.h"
#include "jinja/jinja.h"
#include "tokenizer/gguf_tokenizer.h"
#include <dirent.h>
#include <stdlib.h>
#include <string.h>

enum {
    MAX_TEMPLATES = 64,
    MAX_FILE = 16 << 20 /* bytes of a file that holds a template */
};

typedef struct named_template {
    char *name;
    jinja *template;
} named_template;

struct chat {
    named_template *all;
    int n;
    cJSON *tokens; /* bos_token and friends */
};

/* ---- building -------------------------------------------------------------------------------- */

static sqz_status add_template(chat *c, const char *name, const char *text, int64_t bytes,
                               const char *title, sqz_error *err)
{
    jinja *t = NULL;
    if (c->n == MAX_TEMPLATES)
        return err_set(err, ERR_MODEL, "%s: more than %d chat templates", title, MAX_TEMPLATES);
    named_template *all = realloc(c->all, (size_t)(c->n + 1) * sizeof *all);
    if (!all) return err_set(err, SQZ_E_NOMEM, "%s: no memory for a chat template", title);
    c->all = all;
    sqz_status s = jinja_compile(text, bytes, title, &t, err);
    if (s) return s;
    c->all[c->n++] = (named_template){path_format("%s", name), t};
    return SQZ_OK;
}

static jinja *find_template(const chat *c, const char *name)
{
    for (int i = 0; i < c->n; i++)
        if (!strcmp(c->all[i].name, name)) return c->all[i].template;
    return NULL;
}

/* The value of a chat_template key: a text, or a list of {name, template}. */
static sqz_status add_value(chat *c, const cJSON *value, const char *title, sqz_error *err)
{
    const cJSON *item;
    if (cJSON_IsString(value))
        return add_template(c, "default", value->valuestring, (int64_t)strlen(value->valuestring),
                            title, err);
    if (!cJSON_IsArray(value))
        return err_set(err, ERR_MODEL, "%s: chat_template is neither a text nor a list", title);
    sqz_status s = SQZ_OK;
    cJSON_ArrayForEach(item, value)
    {
        const char *name = json_str(item, "name", NULL), *text = json_str(item, "template", NULL);
        if (!name || !text)
            return err_set(err, ERR_MODEL, "%s: a chat template without name or text", title);
        char *shown = path_format("%s (%.60s)", title, name);
        s = add_template(c, name, text, (int64_t)strlen(text), shown, err);
        free(shown);
        if (s) break;
    }
    return s;
}

static void add_token(chat *c, const char *key, const cJSON *value)
{
    const char *text =
        cJSON_IsString(value) ? value->valuestring : json_str(value, "content", NULL);
    if (text && !json_get(c->tokens, key)) cJSON_AddStringToObject(c->tokens, key, text);
}

static void add_tokens(chat *c, const cJSON *from)
{
    static const char *const keys[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                       "pad_token", "cls_token", "mask_token"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        add_token(c, keys[i], json_get(from, keys[i]));
}

static chat *chat_new(void)
{
    chat *c = calloc(1, sizeof *c);
    if (c) c->tokens = cJSON_CreateObject();
    return c;
}

void chat_free(chat *c)
{
    if (!c) return;
    for (int i = 0; i < c->n; i++) {
        free(c->all[i].name);
        jinja_free(c->all[i].template);
    }
    free(c->all);
    cJSON_Delete(c->tokens);
    free(c);
}

/* ---- files of a model ------------------------------------------------------------------------ */

static sqz_status add_file(chat *c, const char *path, const char *name, sqz_error *err)
{
    char *text = NULL;
    int64_t bytes = 0;
    sqz_status s = file_read(path, MAX_FILE, &text, &bytes, err);
    if (s) {
        if (err) err->code = ERR_MODEL;
        return ERR_MODEL;
    }
    s = add_template(c, name, text, bytes, path, err);
    free(text);
    return s;
}

/* additional_chat_templates/NAME.jinja */
static sqz_status add_more_files(chat *c, const char *dir, sqz_error *err)
{
    char *folder = path_format("%s/additional_chat_templates", dir);
    DIR *d = opendir(folder);
    sqz_status s = SQZ_OK;
    for (struct dirent *e; d && !s && (e = readdir(d));) {
        size_t n = strlen(e->d_name);
        if (n <= 6 || strcmp(e->d_name + n - 6, ".jinja") != 0) continue;
        char *path = path_format("%s/%s", folder, e->d_name);
        char *name = path_format("%.*s", (int)(n - 6), e->d_name);
        s = add_file(c, path, name, err);
        free(path);
        free(name);
    }
    if (d) closedir(d);
    free(folder);
    return s;
}

/* One JSON file of the folder: its chat_template when none is known yet, its special tokens. */
static sqz_status add_json(chat *c, const char *dir, const char *file, int has_template,
                           sqz_error *err)
{
    char *path = path_format("%s/%s", dir, file);
    json_doc *doc = NULL;
    sqz_status s = SQZ_OK;
    if (path_exists(path)) {
        s = json_read(path, MAX_FILE, 0, &doc, err);
        if (s && s != SQZ_E_NOMEM) {
            if (err) err->code = ERR_MODEL;
            s = ERR_MODEL;
        }
    }
    if (doc) {
        const cJSON *value = json_get(json_root(doc), "chat_template");
        if (value && !cJSON_IsNull(value) && !has_template) s = add_value(c, value, path, err);
        add_tokens(c, json_root(doc));
        json_free(doc);
    }
    free(path);
    return s;
}

/* The metadata of a GGUF file, as a tokenizer_config.json. */
static sqz_status add_gguf(chat *c, const char *path, sqz_error *err)
{
    gguf_file *f;
    char *text = NULL;
    json_doc *doc = NULL;
    sqz_status s = gguf_open(path, &f, err);
    if (s) return s;
    s = gguf_tokenizer_config(f, &text, err);
    gguf_close(f);
    if (!s) s = json_parse(text, (int64_t)strlen(text), 0, path, &doc, err);
    if (!s) {
        const cJSON *value = json_get(json_root(doc), "chat_template");
        if (value) s = add_value(c, value, path, err);
        add_tokens(c, json_root(doc));
        json_free(doc);
    }
    free(text);
    return s;
}

static sqz_status add_folder(chat *c, const char *dir, sqz_error *err)
{
    char *path = path_format("%s/chat_template.jinja", dir);
    sqz_status s = path_exists(path) ? add_file(c, path, "default", err) : SQZ_OK;
    free(path);
    if (!s) s = add_more_files(c, dir, err);
    if (!s) s = add_json(c, dir, "tokenizer_config.json", c->n > 0, err);
    if (!s) s = add_json(c, dir, "chat_template.json", c->n > 0, err);
    if (!s) s = add_json(c, dir, "special_tokens_map.json", 1, err);
    return s;
}

sqz_status chat_open(const char *dir, chat **out, sqz_error *err)
{
    chat *c = chat_new();
    if (!c) return err_set(err, SQZ_E_NOMEM, "%s: no memory for a chat template", dir);
    sqz_status s =
        gguf_is_path(dir) && !path_is_dir(dir) ? add_gguf(c, dir, err) : add_folder(c, dir, err);
    if (!s && c->n == 0)
        s = err_set(err, SQZ_E_UNSUPPORTED,
                    "%s: has no chat template (chat_template.jinja, or chat_template in "
                    "tokenizer_config.json); write the prompt as the model was trained to see it",
                    dir);
    if (s) {
        chat_free(c);
        return s;
    }
    *out = c;
    return SQZ_OK;
}

sqz_status chat_from_text(const char *text, int64_t bytes, const cJSON *tokens, const char *name,
                          chat **out, sqz_error *err)
{
    chat *c = chat_new();
    if (!c) return err_set(err, SQZ_E_NOMEM, "%s: no memory for a chat template", name);
    add_tokens(c, tokens);
    sqz_status s = add_template(c, "default", text, bytes, name, err);
    if (s) {
        chat_free(c);
        return s;
    }
    *out = c;
    return SQZ_OK;
}

/* ---- rendering ------------------------------------------------------------------------------- */

static sqz_status pick(const chat *c, const chat_options *o, const jinja **out, sqz_error *err)
{
    const char *name = o->name;
    if (!name)
        name = cJSON_IsArray(o->tools) && find_template(c, "tool_use") ? "tool_use" : "default";
    *out = find_template(c, name);
    if (*out) return SQZ_OK;
    char known[256] = "";
    size_t at = 0;
    for (int i = 0; i < c->n && at < sizeof known - 1; i++)
        at +=
            (size_t)snprintf(known + at, sizeof known - at, "%s%s", i ? ", " : "", c->all[i].name);
    return err_set(err, ERR_USAGE, "no chat template is named \"%s\"; the model has: %s", name,
                   known);
}

/* Older names of the same thing are filled in, so that templates of either age find it. */
static void alias_reasoning(cJSON *message)
{
    static const char *const names[] = {"reasoning_content", "thinking", "reasoning"};
    const cJSON *found = NULL;
    for (int i = 0; i < 3 && !found; i++) found = json_get(message, names[i]);
    if (!found) return;
    cJSON *copy = cJSON_Duplicate(found, 1);
    if (!json_get(message, "thinking"))
        cJSON_AddItemToObject(message, "thinking", cJSON_Duplicate(copy, 1));
    if (json_get(message, "reasoning_content"))
        cJSON_ReplaceItemInObjectCaseSensitive(message, "reasoning_content", copy);
    else
        cJSON_AddItemToObject(message, "reasoning_content", copy);
}

/* The messages as a template sees them: without the members that are null. */
static sqz_status clean_messages(const cJSON *messages, cJSON **out, sqz_error *err)
{
    const cJSON *message, *member;
    int n = 0;
    if (!cJSON_IsArray(messages) || !messages->child)
        return err_set(err, ERR_MODEL, "a conversation is a list of at least one message");
    cJSON *all = cJSON_CreateArray();
    cJSON_ArrayForEach(message, messages)
    {
        n++;
        if (!cJSON_IsObject(message)) {
            cJSON_Delete(all);
            return err_set(err, ERR_MODEL, "message %d of the conversation is no object", n);
        }
        cJSON *copy = cJSON_CreateObject();
        cJSON_ArrayForEach(member, message)
        {
            if (!cJSON_IsNull(member))
                cJSON_AddItemToObject(copy, member->string, cJSON_Duplicate(member, 1));
        }
        alias_reasoning(copy);
        cJSON_AddItemToArray(all, copy);
    }
    *out = all;
    return SQZ_OK;
}

static void set_variable(cJSON *variables, const char *name, const cJSON *value)
{
    cJSON_DeleteItemFromObjectCaseSensitive(variables, name);
    cJSON_AddItemToObject(variables, name, value ? cJSON_Duplicate(value, 1) : cJSON_CreateNull());
}

sqz_status chat_render(const chat *c, const cJSON *messages, const chat_options *options,
                       char **text, int64_t *bytes, sqz_error *err)
{
    chat_options o = options ? *options : (chat_options){0};
    const cJSON *more;
    const jinja *t;
    cJSON *seen = NULL;
    sqz_status s = pick(c, &o, &t, err);
    if (!s) s = clean_messages(messages, &seen, err);
    if (s) return s;
    cJSON *variables = cJSON_Duplicate(c->tokens, 1);
    cJSON_ArrayForEach(more, o.variables) set_variable(variables, more->string, more);
    set_variable(variables, "tools", o.tools);
    set_variable(variables, "documents", o.documents);
    cJSON_DeleteItemFromObjectCaseSensitive(variables, "messages");
    cJSON_DeleteItemFromObjectCaseSensitive(variables, "add_generation_prompt");
    cJSON_AddItemToObject(variables, "messages", seen);
    cJSON_AddBoolToObject(variables, "add_generation_prompt", o.add_generation_prompt);
    jinja_limits limits = {.now_s = o.now_s};
    s = jinja_render(t, variables, &limits, text, bytes, err);
    cJSON_Delete(variables);
    return s;
}
