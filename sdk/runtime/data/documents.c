/* documents.c - see documents.h; and the token stream of a data set. */
#include "data/documents.h"
#include "chat/chat.h"
#include "data/rows.h"
#include "task/task.h"
#include <stdlib.h>
#include <string.h>

/* ---- rows as text -------------------------------------------------------------------------------
 */

const char *const document_fields[] = {"text",     "question", "answer",       "ctx",
                                       "query",    "context",  "continuation", "context_options",
                                       "endings",  "choices",  "label",        "gold",
                                       "messages", "tools"};
const int64_t document_n_fields = sizeof document_fields / sizeof *document_fields;

const char *document_choices(const row_store *s, int64_t i)
{
    if (rows_list_length(s, i, "endings") >= 0) return "endings";
    return rows_list_length(s, i, "choices") >= 0 ? "choices" : NULL;
}

int64_t document_gold(const row_store *s, int64_t i, int64_t n_choices)
{
    static const char *const names[] = {"label", "answer", "gold"};
    for (int k = 0; k < 3; k++) {
        int64_t n;
        double value;
        const char *text = rows_text(s, i, names[k], &n);
        if (!text) continue;
        if (rows_number(s, i, names[k], &value))
            return value >= 0 && value < (double)n_choices && value == (double)(int64_t)value
                       ? (int64_t)value
                       : -1;
        if (n == 1 && *text >= 'A' && *text - 'A' < n_choices) return *text - 'A';
        return -1;
    }
    return -1;
}

static void add(text_buffer *b, const char *text)
{
    text_add(b, text, (int64_t)strlen(text));
}

static int add_choice_row(const row_store *s, int64_t i, text_buffer *b)
{
    const char *list = document_choices(s, i);
    const char *ctx = rows_text(s, i, "ctx", NULL), *query = rows_text(s, i, "query", NULL);
    const char *question = rows_text(s, i, "question", NULL);
    int64_t gold = list ? document_gold(s, i, rows_list_length(s, i, list)) : -1;
    const char *choice = gold >= 0 ? rows_list_text(s, i, list, gold) : NULL;
    if (!choice || !(ctx || query || question)) return 0;
    if (ctx || (query && !question)) {
        add(b, ctx ? ctx : query);
    } else {
        add(b, "Question: ");
        add(b, question);
        add(b, "\nAnswer:");
    }
    add(b, " ");
    add(b, choice);
    return 1;
}

/* {context, continuation} and {context_options, continuation, gold} */
static int add_continuation_row(const row_store *s, int64_t i, text_buffer *b)
{
    const char *context = rows_text(s, i, "context", NULL);
    const char *continuation = rows_text(s, i, "continuation", NULL);
    int64_t n = rows_list_length(s, i, "context_options");
    if (!context && n > 0)
        context = rows_list_text(s, i, "context_options", document_gold(s, i, n));
    if (!context || !continuation) return 0;
    add(b, context);
    add(b, " ");
    add(b, continuation);
    return 1;
}

/* Elements of a list as the JSON they were; cJSON_Delete.  NULL: one of them is none. */
static cJSON *json_list(const row_store *s, int64_t i, const char *field)
{
    int64_t n = rows_list_length(s, i, field);
    cJSON *list = n >= 0 ? cJSON_CreateArray() : NULL;
    for (int64_t k = 0; k < n && list; k++) {
        const char *text = rows_list_text(s, i, field, k);
        json_doc *doc = NULL;
        if (json_parse(text, (int64_t)strlen(text), 0, field, &doc, NULL) != SQZ_OK) {
            cJSON_Delete(list);
            return NULL;
        }
        cJSON_AddItemToArray(list, cJSON_Duplicate(json_root(doc), 1));
        json_free(doc);
    }
    return list;
}

/* Templates may print the date; the same rows must give the same windows on every day. */
enum { CHAT_DATE = 1721952000 /* 26 July 2024, the date of the first templates that ask */ };

sqz_status document_chat(const dataset *d, int64_t i, text_buffer *b, sqz_error *err)
{
    const row_store *s = data_rows(d);
    char *text = NULL;
    int64_t n = 0;
    b->n = 0;
    if (!d->chat)
        return err_set(
            err, SQZ_E_UNSUPPORTED,
            "%s:%lld: messages need a model with a chat template; give rows with \"text\"",
            rows_path(s, i), (long long)rows_line(s, i));
    cJSON *messages = json_list(s, i, "messages"), *tools = json_list(s, i, "tools");
    chat_options o = {.tools = tools, .now_s = CHAT_DATE};
    sqz_status st = messages ? chat_render(d->chat, messages, &o, &text, &n, err)
                             : err_set(err, ERR_MODEL, "a message is no JSON object");
    if (st != SQZ_OK) err_prefix(err, "%s:%lld", rows_path(s, i), (long long)rows_line(s, i));
    if (st == SQZ_OK) text_add(b, text, n);
    cJSON_Delete(messages);
    cJSON_Delete(tools);
    free(text);
    return st;
}

int document_text(const dataset *d, int64_t i, text_buffer *b)
{
    const row_store *s = data_rows(d);
    int64_t n;
    b->n = 0;
    if (d->kind == DATA_TASK) {
        const char *text = rows_text(s, i, "request.document", &n);
        if (text) text_add(b, text, n);
        return text && !b->failed;
    }
    if (d->kind == DATA_TEXT) {
        const char *text = rows_text(s, i, "text", &n);
        if (text) text_add(b, text, n);
        return text && !b->failed;
    }
    if (d->kind == DATA_GENERATE) {
        add(b, "Question: ");
        add(b, rows_text(s, i, "question", NULL));
        add(b, "\nAnswer: ");
        add(b, rows_text(s, i, "answer", NULL));
        return !b->failed;
    }
    if (d->kind == DATA_CHAT) return document_chat(d, i, b, NULL) == SQZ_OK && !b->failed;
    int known = d->kind == DATA_CHOICE ? add_choice_row(s, i, b) : add_continuation_row(s, i, b);
    return known && !b->failed;
}

/* ---- token streams ------------------------------------------------------------------------------
 */

int framing_parse(const char *text, framing *out)
{
    static const char *const words[] = {"default", "none", "bos", "eos", "bos+eos"};
    for (int i = 0; i < 5; i++)
        if (!strcmp(text, words[i])) {
            *out = (framing)i;
            return 1;
        }
    return 0;
}

/* Ids around each document, -1 for none.  By default what the tokenizer defines; a token that was
 * asked for by name must exist. */
sqz_status documents_frame(const dataset *d, const tokenizer *t, framing frame, frame_tokens *out,
                           sqz_error *err)
{
    int before = frame == FRAME_BOS || frame == FRAME_BOS_EOS;
    int after = frame == FRAME_EOS || frame == FRAME_BOS_EOS;
    if (frame == FRAME_DEFAULT && d->is_txt) tokenizer_template(t, &before, &after);
    if (frame == FRAME_DEFAULT && !d->is_txt) before = after = d->kind != DATA_CHAT;
    frame_tokens f = {before ? tokenizer_bos(t) : -1, after ? tokenizer_eos(t) : -1};
    if (frame != FRAME_DEFAULT && ((before && f.bos < 0) || (after && f.eos < 0)))
        return err_set(err, ERR_USAGE,
                       "%s: the tokenizer defines no %s token to put around documents; choose "
                       "another --document-tokens",
                       d->path, before && f.bos < 0 ? "bos" : "eos");
    *out = f;
    return SQZ_OK;
}

static sqz_status add_text_of(const dataset *d, tokenizer *t, int64_t i, text_buffer *scratch,
                              id_list *out, sqz_error *err)
{
    const row_store *s = data_rows(d);
    int64_t n = 0, n_ids;
    int32_t *ids;
    const char *text = d->kind == DATA_TEXT ? rows_text(s, i, "text", &n) : NULL;
    if (!text) {
        sqz_status rendered = SQZ_OK;
        if (d->kind == DATA_CHAT)
            rendered = document_chat(d, i, scratch, err);
        else if (!document_text(d, i, scratch))
            rendered = err_set(err, scratch->failed ? SQZ_E_NOMEM : ERR_MODEL, "%s:%lld: %s",
                               rows_path(s, i), (long long)rows_line(s, i),
                               scratch->failed ? "no memory for the row"
                                               : "this row cannot be read as text; give rows with "
                                                 "\"text\", or question and answer");
        if (rendered != SQZ_OK) return rendered;
        text = scratch->at;
        n = scratch->n;
    }
    sqz_status st = tokenizer_encode(t, text ? text : "", n, 0, &ids, &n_ids, err);
    if (st != SQZ_OK) {
        err_prefix(err, "%s:%lld", rows_path(s, i), (long long)rows_line(s, i));
        return st;
    }
    int32_t *room = ids_reserve(out, n_ids);
    if (room && n_ids) memcpy(room, ids, (size_t)n_ids * sizeof *ids);
    if (room) out->n += n_ids;
    free(ids);
    return SQZ_OK;
}

sqz_status documents_add(const dataset *d, tokenizer *t, int64_t i, const frame_tokens *f,
                         text_buffer *scratch, id_list *out, sqz_error *err)
{
    if (f->bos >= 0) ids_add(out, f->bos);
    sqz_status st = add_text_of(d, t, i, scratch, out, err);
    if (f->eos >= 0) ids_add(out, f->eos);
    if (st == SQZ_OK && out->failed)
        st = err_set(err, SQZ_E_NOMEM, "%s: no memory for its tokens", d->path);
    return st;
}

sqz_status documents_stream(const dataset *d, tokenizer *t, framing frame, const uint8_t *skip,
                            int64_t limit, id_list *out, sqz_error *err)
{
    frame_tokens f;
    text_buffer scratch = {0};
    sqz_status st = documents_frame(d, t, frame, &f, err);
    for (int64_t i = 0; i < d->rows.n_rows && st == SQZ_OK; i++) {
        if (skip && skip[i]) continue;
        if (limit >= 0 && out->n >= limit) break;
        st = documents_add(d, t, i, &f, &scratch, out, err);
    }
    text_free(&scratch);
    return st;
}

sqz_status data_stream(const dataset *d, tokenizer *t, framing frame, const uint8_t *skip,
                       int32_t **ids, int64_t *n, sqz_error *err)
{
    id_list out = {0};
    if (d->kind != DATA_TEXT && !(d->task && task_is_text(d->task)))
        return err_set(err, SQZ_E_INVALID,
                       "%s: only rows with \"text\" and .txt files are a stream of tokens",
                       d->path);
    ids_reserve(&out, 16); /* never a NULL result, even of nothing */
    sqz_status st = documents_stream(d, t, frame, skip, -1, &out, err);
    if (st != SQZ_OK) {
        ids_free(&out);
        return st;
    }
    *ids = out.at;
    *n = out.n;
    return SQZ_OK;
}
