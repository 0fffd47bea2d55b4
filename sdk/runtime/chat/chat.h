/* chat.h - a conversation as the text that a model was trained to see: its chat template.
 *
 * The template is found where models publish it (newest first): chat_template.jinja with
 * additional_chat_templates/NAME.jinja beside it, the key chat_template of tokenizer_config.json (a
 * text, or a list of named ones), chat_template.json; the metadata of a GGUF file.  It sees what
 * transformers lets it see: messages, tools, documents, add_generation_prompt, the special tokens
 * that the tokenizer names, and the caller's own variables.  The text already holds the special
 * tokens: encode it without adding any. */
#ifndef SQZ_RUNTIME_CHAT_H
#define SQZ_RUNTIME_CHAT_H
#include "error/error.h"
#include "json/json.h"

typedef struct chat chat;

/* dir: a model folder or a GGUF file.  SQZ_E_UNSUPPORTED when it has no chat template. */
sqz_status chat_open(const char *dir, chat **out, sqz_error *err);
/* A template from elsewhere.  tokens: an object such as {"bos_token":
 * "<s>"}, or NULL. */
sqz_status chat_from_text(const char *text, int64_t bytes, const cJSON *tokens, const char *name,
                          chat **out, sqz_error *err);
void chat_free(chat *);

typedef struct chat_options {
    const cJSON *tools;        /* array of JSON schemas, or NULL */
    const cJSON *documents;    /* array of objects, or NULL */
    const cJSON *variables;    /* object: more variables, such as {"enable_thinking": false} */
    int add_generation_prompt; /* end with the head of the assistant's answer */
    const char *name;          /* of the template, where there are several; NULL: by the tools */
    int64_t now_s;             /* the time that templates see, seconds since 1970; 0: the clock */
} chat_options;
/* messages: a non-empty array of objects with "role" and mostly "content".  options may be NULL.
 * *text is malloc'd and zero-terminated.  A conversation that the template refuses is ERR_MODEL
 * with the template's own words. */
sqz_status chat_render(const chat *, const cJSON *messages, const chat_options *, char **text,
                       int64_t *bytes, sqz_error *err);
#endif
