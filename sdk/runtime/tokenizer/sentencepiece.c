/* sentencepiece.c - tokenizer.model: SentencePiece's ModelProto, and what transformers makes of it.
 *
 * The protobuf is read field by field with a bounded reader; unknown fields are passed over.  The
 * stages around the model follow the class, as in transformers' fast tokenizers; classes that
 * renumber their pieces (XLM-R, CamemBERT, mBART, NLLB, ...) are refused by name.
 * Left out: word and character models, and white space as a suffix. */
#include "io/file.h"
#include "json/json.h"
#include "tokenizer/from_pieces.h"
#include "tokenizer/load.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_MODEL_BYTES ((int64_t)256 << 20)
enum { MAX_PIECES = 1 << 22 };

/* ---- protobuf -----------------------------------------------------------------------------------
 */

typedef struct message {
    const uint8_t *at, *end;
    int damaged;
} message;

typedef struct field {
    uint64_t number;
    uint64_t value;    /* varint and fixed fields */
    const uint8_t *at; /* length-delimited fields: their bytes */
    int64_t n;         /* -1: not length-delimited */
} field;

static uint64_t read_varint(message *m)
{
    uint64_t v = 0;
    for (int shift = 0; shift < 64 && m->at < m->end; shift += 7) {
        uint8_t b = *m->at++;
        v |= (uint64_t)(b & 127) << shift;
        if (!(b & 128)) return v;
    }
    m->damaged = 1;
    return 0;
}

static uint64_t read_fixed(message *m, int n)
{
    uint64_t v = 0;
    if (m->end - m->at < n) {
        m->damaged = 1;
        return 0;
    }
    for (int i = 0; i < n; i++) v |= (uint64_t)m->at[i] << (8 * i);
    m->at += n;
    return v;
}

/* 0: the message ends, or is damaged. */
static int next_field(message *m, field *f)
{
    if (m->at >= m->end || m->damaged) return 0;
    uint64_t tag = read_varint(m);
    *f = (field){.number = tag >> 3, .n = -1};
    switch (tag & 7) {
    case 0: f->value = read_varint(m); break;
    case 1: f->value = read_fixed(m, 8); break;
    case 5: f->value = read_fixed(m, 4); break;
    case 2: {
        uint64_t n = read_varint(m);
        if (m->damaged || n > (uint64_t)(m->end - m->at)) {
            m->damaged = 1;
            return 0;
        }
        f->at = m->at;
        f->n = (int64_t)n;
        m->at += n;
        break;
    }
    default: m->damaged = 1; /* groups are not used by this format */
    }
    if (!f->number) m->damaged = 1;
    return !m->damaged;
}

static message inside(const field *f)
{
    return (message){f->at, f->n < 0 ? f->at : f->at + f->n, f->n < 0};
}

/* ---- ModelProto ---------------------------------------------------------------------------------
 */

enum { TYPE_UNIGRAM = 1, TYPE_BPE = 2 };

typedef struct proto {
    piece_entry *pieces;
    int64_t n, room;
    uint64_t type;
    int32_t unk, bos, eos;
    int byte_fallback, space_suffix;
    const uint8_t *charsmap;
    int64_t n_charsmap;
    char *sentinels; /* names of pieces that the class adds */
} proto;

static int add_piece(proto *p, message m)
{
    if (p->n == p->room) {
        int64_t room = p->room ? 2 * p->room : 1024;
        piece_entry *more = realloc(p->pieces, (size_t)room * sizeof *more);
        if (!more) return 0;
        p->pieces = more;
        p->room = room;
    }
    piece_entry *piece = &p->pieces[p->n++];
    *piece = (piece_entry){"", 0, 0, PIECE_NORMAL};
    for (field f; next_field(&m, &f);) {
        if (f.number == 1 && f.n >= 0) {
            piece->text = (const char *)f.at;
            piece->n = f.n;
        } else if (f.number == 2 && f.n < 0) {
            uint32_t bits = (uint32_t)f.value;
            memcpy(&piece->score, &bits, sizeof bits);
        } else if (f.number == 3) {
            piece->kind = f.value <= PIECE_BYTE ? (int32_t)f.value : PIECE_UNUSED;
        }
    }
    return m.damaged ? -1 : 1;
}

/* Ids are signed; -1 says that there is none. */
static int32_t id_of(uint64_t v)
{
    return v <= MAX_PIECES ? (int32_t)v : -1;
}

static void read_trainer(proto *p, message *m)
{
    for (field f; next_field(m, &f);) switch (f.number) {
        case 3: p->type = f.value; break;
        case 24: p->space_suffix = f.value != 0; break;
        case 35: p->byte_fallback = f.value != 0; break;
        case 40: p->unk = id_of(f.value); break;
        case 41: p->bos = id_of(f.value); break;
        case 42: p->eos = id_of(f.value); break;
        default: break;
        }
}

static void read_normalizer(proto *p, message *m)
{
    for (field f; next_field(m, &f);)
        if (f.number == 2 && f.n >= 0) {
            p->charsmap = f.at;
            p->n_charsmap = f.n;
        }
}

/* Points into `data`. */
static sqz_status read_proto(const loader *l, const char *data, int64_t n, proto *p)
{
    message m = {(const uint8_t *)data, (const uint8_t *)data + n, 0}, sub = {0};
    int got = 1;
    *p = (proto){.type = TYPE_UNIGRAM, .unk = 0, .bos = 1, .eos = 2};
    for (field f; got > 0 && !sub.damaged && next_field(&m, &f);) {
        sub = (message){0};
        if (f.number > 3) continue;
        sub = inside(&f);
        if (f.number == 1 && !sub.damaged) got = p->n < MAX_PIECES ? add_piece(p, sub) : -1;
        if (f.number == 2) read_trainer(p, &sub);
        if (f.number == 3) read_normalizer(p, &sub);
    }
    if (!got) return load_no_memory(l);
    if (got < 0 || m.damaged || sub.damaged)
        return err_set(l->err, ERR_MODEL,
                       "%s: not a SentencePiece model, or damaged, near byte %lld of %lld (at most "
                       "%d pieces)",
                       l->file, (long long)(m.at - (const uint8_t *)data), (long long)n,
                       MAX_PIECES);
    if (!p->n)
        return err_set(l->err, ERR_MODEL, "%s: a SentencePiece model without pieces", l->file);
    if (p->unk >= p->n) p->unk = -1;
    if (p->bos >= p->n) p->bos = -1;
    if (p->eos >= p->n) p->eos = -1;
    return SQZ_OK;
}

/* ---- what the classes put around the model ------------------------------------------------------
 */

#define MARK "\xE2\x96\x81"
#define TO_MARK "{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"" MARK "\"}"
#define FROM_MARK "{\"type\":\"Replace\",\"pattern\":{\"String\":\"" MARK "\"},\"content\":\" \"}"
#define DECODER(rest)                                                                              \
    "{\"type\":\"Sequence\",\"decoders\":[" FROM_MARK                                              \
    ",{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"}" rest "]}"

static void as_llama(const cJSON *config, piece_list *list)
{
    int prefix = json_bool(config, "add_prefix_space", 1), legacy = json_bool(config, "legacy", 0);
    list->normalizer = "null";
    list->pre_tokenizer =
        !prefix  ? "{\"type\":\"Metaspace\",\"prepend_scheme\":\"never\",\"split\":false}"
        : legacy ? "{\"type\":\"Metaspace\",\"prepend_scheme\":\"always\",\"split\":false}"
                 : "{\"type\":\"Metaspace\",\"prepend_scheme\":\"first\",\"split\":false}";
    list->decoder = prefix
                        ? DECODER(",{\"type\":\"Strip\",\"content\":\" \",\"start\":1,\"stop\":0}")
                        : DECODER("");
    list->byte_fallback = 1;
    list->unk = -1;
    list->add_bos = json_bool(config, "add_bos_token", 0);
    list->add_eos = json_bool(config, "add_eos_token", 0);
    list->charsmap = NULL;
}

static void as_gemma(const cJSON *config, piece_list *list)
{
    list->normalizer = TO_MARK;
    list->pre_tokenizer = "{\"type\":\"Split\",\"pattern\":{\"String\":\" \"},\"behavior\":"
                          "\"MergedWithPrevious\",\"invert\":false}";
    list->decoder = DECODER("");
    list->byte_fallback = 1;
    list->add_bos = json_bool(config, "add_bos_token", 0);
    list->add_eos = json_bool(config, "add_eos_token", 0);
    list->charsmap = NULL;
}

/* T5's sentinels follow the pieces: <extra_id_99> ... <extra_id_0>. */
static sqz_status add_sentinels(const loader *l, proto *p, piece_list *list)
{
    enum { NAME = 24, MOST = 10000 };
    int64_t n = json_int(l->config ? json_root(l->config) : NULL, "extra_ids", 100);
    if (n < 0 || n > MOST)
        return err_set(l->err, ERR_MODEL, "%s: extra_ids is %lld; at most %d", l->dir, (long long)n,
                       MOST);
    p->sentinels = calloc((size_t)n + 1, NAME);
    piece_entry *more = realloc(p->pieces, (size_t)(p->n + n) * sizeof *more);
    if (more) p->pieces = more;
    if (!p->sentinels || !more) return load_no_memory(l);
    for (int64_t i = 0; i < n; i++) {
        char *name = p->sentinels + i * NAME;
        int length = snprintf(name, NAME, "<extra_id_%d>", (int)(n - 1 - i));
        more[p->n + i] = (piece_entry){name, length, 0, PIECE_CONTROL};
    }
    list->pieces = more;
    list->n = p->n + n;
    return SQZ_OK;
}

static void as_t5(piece_list *list)
{
    list->normalizer = "null";
    list->pre_tokenizer = "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"WhitespaceSplit\"}"
                          ",{\"type\":\"Metaspace\",\"prepend_scheme\":\"always\"}]}";
    list->decoder = "{\"type\":\"Metaspace\",\"prepend_scheme\":\"always\"}";
    list->byte_fallback = 0;
    list->add_eos = 1;
}

/* No class of its own: the model as its file describes it. */
static void as_written(piece_list *list)
{
    list->normalizer = TO_MARK;
    list->pre_tokenizer = "null";
    list->decoder =
        list->byte_fallback ? DECODER("") : "{\"type\":\"Sequence\",\"decoders\":[" FROM_MARK "]}";
}

static sqz_status apply_class(const loader *l, const char *class, proto *p, piece_list *list)
{
    const cJSON *config = l->config ? json_root(l->config) : NULL;
    size_t n = strlen(class);
    if (n > 4 && !strcmp(class + n - 4, "Fast")) n -= 4;
    int merged = list->merged;
    if (n == 14 && !strncmp(class, "LlamaTokenizer", n) && merged)
        as_llama(config, list);
    else if (n == 14 && !strncmp(class, "GemmaTokenizer", n) && merged)
        as_gemma(config, list);
    else if (n == 11 && !strncmp(class, "T5Tokenizer", n) && !merged) {
        as_t5(list);
        return add_sentinels(l, p, list);
    } else if (!n || !strcmp(class, "TokenizersBackend") ||
               !strcmp(class, "PreTrainedTokenizerFast"))
        as_written(list);
    else
        return err_set(
            l->err, SQZ_E_UNSUPPORTED,
            "%s: tokenizer class \"%s\" with a %s model is not built; save the tokenizer "
            "with its tokenizer.json",
            l->file, class, merged ? "BPE" : "Unigram");
    return SQZ_OK;
}

static sqz_status build(loader *l, proto *p, const char *class)
{
    if (p->type != TYPE_UNIGRAM && p->type != TYPE_BPE)
        return err_set(
            l->err, SQZ_E_UNSUPPORTED,
            "%s: SentencePiece model type %llu is not built; unigram (1) and BPE (2) are", l->file,
            (unsigned long long)p->type);
    if (p->space_suffix)
        return err_set(l->err, SQZ_E_UNSUPPORTED, "%s: treat_whitespace_as_suffix is not built",
                       l->file);
    piece_list list = {
        .file = l->file,
        .pieces = p->pieces,
        .n = p->n,
        .merged = p->type == TYPE_BPE,
        .unk = p->unk,
        .bos = p->bos,
        .eos = p->eos,
        .byte_fallback = p->byte_fallback,
        .charsmap = p->charsmap,
        .n_charsmap = p->n_charsmap,
    };
    sqz_status st = apply_class(l, class, p, &list);
    return st == SQZ_OK ? load_pieces(&list, l->t, l->err) : st;
}

sqz_status load_sentencepiece(loader *l, const char *path, const char *class)
{
    char *data = NULL;
    int64_t n = 0;
    proto p = {0};
    l->file = path;
    sqz_status st = file_read(path, MAX_MODEL_BYTES, &data, &n, l->err);
    if (st != SQZ_OK && st != SQZ_E_NOMEM && l->err) l->err->code = ERR_MODEL;
    if (st != SQZ_OK) return st == SQZ_E_NOMEM ? st : ERR_MODEL;
    st = read_proto(l, data, n, &p);
    if (st == SQZ_OK) st = build(l, &p, class);
    free(p.pieces);
    free(p.sentinels);
    free(data);
    return st;
}
