/* Between the first and the last token of an answer nothing is allocated, the callback included. Tuning reads and encodes its examples as it comes to
 * them, and gives all of that back: after each update as much is allocated as after the one before: no_alloc MODEL.gguf
 *
 * Counts what the C library is asked for by anyone in the process, with functions of the same names in front of its own. */
#include "check.h"
#include <stdatomic.h>

extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);
extern void __libc_free(void *);

static atomic_int counting;
static atomic_ulong counted;
/* Allocations that were not given back. */
static atomic_long live;

static void count(void) {
    if (atomic_load(&counting)) atomic_fetch_add(&counted, 1);
    atomic_fetch_add(&live, 1);
}

void *malloc(size_t size) {
    count();
    return __libc_malloc(size);
}

void *calloc(size_t number, size_t size) {
    count();
    return __libc_calloc(number, size);
}

void free(void *at) {
    if (at) atomic_fetch_sub(&live, 1);
    __libc_free(at);
}

void *realloc(void *at, size_t size) {
    count();
    if (at) atomic_fetch_sub(&live, 1);
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

struct kept {
    int updates;
    long first, last;
};

static int update(void *user, const attune_progress *progress) {
    struct kept *kept = user;
    (void)progress;
    kept->updates++;
    kept->last = atomic_load(&live);
    if (kept->updates == 2) kept->first = kept->last;
    return 0;
}

/* Tuning with a method of one family: what is allocated after its second update and after its last. */
static void tune(attune_model *model, const char *method) {
    static const char *const animals[] = {"cow", "dog", "cat", "duck"}, *const sounds[] = {"moo", "woof", "meow", "quack"};
    attune_data *data;
    attune_tuner *tuner;
    attune_tune_options options;
    attune_run_options run;
    attune_run outcome = ATTUNE_INIT(attune_run);
    struct kept kept = {0, 0, 1};
    OK(attune_data_new(&data, &error));
    for (int i = 0; i < 4; i++) {
        char question[64];
        snprintf(question, sizeof question, "What does a %s say?", animals[i]);
        attune_message turn = say("user", question);
        attune_text chosen = attune_str(sounds[i]), rejected = attune_str(sounds[(i + 1) % 4]);
        if (!method[0]) OK(attune_data_add_answer(data, turn.content, chosen, &error));
        else OK(attune_data_add_pair(data, &turn, 1, chosen, rejected, &error));
    }
    attune_tune_options_default(&options);
    options.method = attune_str(method[0] ? method : NULL);
    options.gradient_accumulation = 2;
    options.max_length = 64;
    options.steps = 8;
    options.threads = 2;
    OK(attune_tuner_new(model, data, &options, &tuner, &error));
    attune_run_options_default(&run);
    run.on_step = update;
    run.user = &kept;
    OK(attune_tuner_run(tuner, &run, &outcome, &error));
    printf("no_alloc: %s, %d updates, %ld allocations more after the last than after the second\n", method[0] ? method : "sft", kept.updates, kept.last - kept.first);
    CHECK(outcome.reason == ATTUNE_RUN_DONE && kept.updates == 8 && kept.last <= kept.first);
    OK(attune_tuner_free(tuner));
    OK(attune_data_free(data));
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
    tune(model, "");
    tune(model, "dpo");
    tune(model, "reward");
    OK(attune_model_free(model));
    puts("no_alloc: nothing allocated");
    return 0;
}
