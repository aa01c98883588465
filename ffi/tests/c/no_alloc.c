/* Between the first and the last token of an answer nothing is allocated, the callback included: no_alloc MODEL.gguf
 *
 * Counts what the C library is asked for by anyone in the process, with functions of the same names in front of its own. */
#include "check.h"
#include <stdatomic.h>

extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);

static atomic_int counting;
static atomic_ulong counted;

static void count(void) {
    if (atomic_load(&counting)) atomic_fetch_add(&counted, 1);
}

void *malloc(size_t size) {
    count();
    return __libc_malloc(size);
}

void *calloc(size_t number, size_t size) {
    count();
    return __libc_calloc(number, size);
}

void *realloc(void *at, size_t size) {
    count();
    return __libc_realloc(at, size);
}

void *memalign(size_t alignment, size_t size) {
    count();
    return __libc_memalign(alignment, size);
}

void *aligned_alloc(size_t alignment, size_t size) {
    return memalign(alignment, size);
}

int posix_memalign(void **at, size_t alignment, size_t size) {
    *at = memalign(alignment, size);
    return *at ? 0 : 12;
}

struct heard {
    int tokens;
    unsigned long at_last;
};

static int hear(void *user, attune_text text) {
    struct heard *heard = user;
    (void)text;
    heard->tokens++;
    if (heard->tokens == 2) {
        atomic_store(&counted, 0);
        atomic_store(&counting, 1);
    }
    heard->at_last = atomic_load(&counted);
    return 0;
}

int main(int argc, char **argv) {
    attune_model *model;
    CHECK(argc == 2);
    /* That it counts at all. */
    atomic_store(&counting, 1);
    void *volatile some = malloc(100);
    free(some);
    atomic_store(&counting, 0);
    CHECK(atomic_load(&counted) == 1);
    OK(attune_model_open(attune_str(argv[1]), &model, &error));
    for (int threads = 1; threads <= 2; threads++) {
        attune_session_options options;
        attune_session *session;
        attune_session_options_default(&options);
        options.context = 128;
        options.threads = (uint32_t)threads;
        OK(attune_session_new(model, &options, &session, &error));
        for (int sampled = 0; sampled <= 1; sampled++) {
            struct heard heard = {0, 1};
            attune_message turn = say("user", "What is the capital of Portugal?");
            attune_generate_options how = greedy(64);
            attune_cancel *cancel;
            OK(attune_cancel_new(&cancel, &error));
            how.temperature = sampled ? 0.8f : 0;
            how.on_token = hear;
            how.user = &heard;
            how.cancel = cancel;
            OK(attune_session_chat(session, &turn, 1, &how, NULL, &error));
            atomic_store(&counting, 0);
            printf("no_alloc: %d pieces of text, %lu allocations between the second and the last\n", heard.tokens, heard.at_last);
            CHECK(heard.tokens >= 8 && heard.at_last == 0);
            OK(attune_cancel_free(cancel));
        }
        OK(attune_session_free(session));
    }
    OK(attune_model_free(model));
    puts("no_alloc: nothing allocated");
    return 0;
}
