/* Two models and two sessions on two threads at once, and calls that end soon after they are cancelled: threads MODEL.gguf [LARGE.gguf] */
#define _POSIX_C_SOURCE 200809L
#include "check.h"
#include <pthread.h>
#include <time.h>

static double now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

struct work {
    const char *path;
    char text[256];
};

static void *answer(void *user) {
    struct work *work = user;
    attune_error mine = ATTUNE_INIT(attune_error);
    attune_model *model;
    attune_generate_options how = greedy(16);
    CHECK(attune_model_open(attune_str(work->path), &model, &mine) == ATTUNE_OK);
    for (int i = 0; i < 10; i++) {
        attune_session *session = small_session(model, 0);
        CHECK(attune_session_complete(session, attune_str("The capital of France is"), &how, NULL, &mine) == ATTUNE_OK);
        char text[256];
        CHECK(attune_session_text(session, text, sizeof text, NULL, &mine) == ATTUNE_OK);
        CHECK(i == 0 || strcmp(text, work->text) == 0);
        strcpy(work->text, text);
        CHECK(attune_session_free(session) == ATTUNE_OK);
    }
    CHECK(attune_model_free(model) == ATTUNE_OK);
    return NULL;
}

static void at_once(const char *path) {
    struct work work[2] = {{path, ""}, {path, ""}};
    pthread_t threads[2];
    for (int i = 0; i < 2; i++) CHECK(pthread_create(&threads[i], NULL, answer, &work[i]) == 0);
    for (int i = 0; i < 2; i++) CHECK(pthread_join(threads[i], NULL) == 0);
    CHECK(work[0].text[0] && strcmp(work[0].text, work[1].text) == 0);
}

struct asked {
    attune_cancel *cancel;
    attune_tuner *tuner;
    int after_ms;
    double at;
};

static void *ask(void *user) {
    struct asked *asked = user;
    attune_progress progress = ATTUNE_INIT(attune_progress);
    attune_error mine = ATTUNE_INIT(attune_error);
    struct timespec pause = {asked->after_ms / 1000, (long)(asked->after_ms % 1000) * 1000000};
    nanosleep(&pause, NULL);
    if (asked->tuner) CHECK(attune_tuner_get_progress(asked->tuner, &progress, &mine) == ATTUNE_OK);
    asked->at = now_ms();
    CHECK(attune_cancel_ask(asked->cancel, &mine) == ATTUNE_OK);
    return NULL;
}

/* Milliseconds from the request to the call's return. */
static double tuning_ends_after(attune_tuner *tuner, int after_ms) {
    struct asked asked = {NULL, tuner, after_ms, 0};
    attune_run_options how;
    attune_run run = ATTUNE_INIT(attune_run);
    pthread_t thread;
    attune_run_options_default(&how);
    OK(attune_cancel_new(&asked.cancel, &error));
    how.cancel = asked.cancel;
    CHECK(pthread_create(&thread, NULL, ask, &asked) == 0);
    OK(attune_tuner_run(tuner, &how, &run, &error));
    double end = now_ms();
    CHECK(pthread_join(thread, NULL) == 0);
    OK(attune_cancel_free(asked.cancel));
    CHECK(run.reason == ATTUNE_RUN_CANCELLED);
    return end - asked.at;
}

static double answer_ends_after(attune_session *session, const uint32_t *ids, size_t count, int after_ms) {
    struct asked asked = {NULL, NULL, after_ms, 0};
    attune_generate_options how = greedy(100000);
    attune_generation made = ATTUNE_INIT(attune_generation);
    pthread_t thread;
    OK(attune_cancel_new(&asked.cancel, &error));
    how.cancel = asked.cancel;
    OK(attune_session_reset(session, &error));
    CHECK(pthread_create(&thread, NULL, ask, &asked) == 0);
    OK(attune_session_continue(session, ids, count, &how, &made, &error));
    double end = now_ms();
    CHECK(pthread_join(thread, NULL) == 0);
    OK(attune_cancel_free(asked.cancel));
    CHECK(made.finish_reason == ATTUNE_FINISH_CANCELLED);
    return end - asked.at;
}

static double larger(double a, double b) {
    return a > b ? a : b;
}

/* A step of the largest micro-batch, with a model for which one takes seconds. */
static void cancels(const char *path, int large) {
    attune_model *model;
    attune_model_info info = ATTUNE_INIT(attune_model_info);
    attune_data *data;
    attune_tuner *tuner;
    attune_tune_options options;
    attune_session_options planned;
    attune_session *session;
    double worst = 0;
    OK(attune_model_open(attune_str(path), &model, &error));
    OK(attune_model_get_info(model, &info, &error));
    uint32_t tokens = info.context < 1024 ? info.context : 1024;
    attune_tune_options_default(&options);
    options.max_length = tokens;
    options.epochs = 1000000;
    OK(attune_data_new(&data, &error));
    char *line = malloc(32 + (size_t)tokens * 24);
    uint32_t *ids = malloc(sizeof *ids * tokens);
    size_t length = (size_t)sprintf(line, "{\"input_ids\":[");
    for (uint32_t i = 0; i < tokens; i++) {
        ids[i] = 300 + i * 7 % 1000;
        length += (size_t)sprintf(line + length, i ? ",%u" : "%u", ids[i]);
    }
    length += (size_t)sprintf(line + length, "],\"labels\":[");
    for (uint32_t i = 0; i < tokens; i++) length += (size_t)sprintf(line + length, i ? ",%u" : "%u", ids[i]);
    sprintf(line + length, "]}");
    OK(attune_data_add_lines(data, attune_str(line), &error));
    OK(attune_tuner_new(model, data, &options, &tuner, &error));
    static const int moments[] = {3, 40, 100, 250, 700, 1200};
    for (int i = 0; i < (large ? 6 : 4); i++) worst = larger(worst, tuning_ends_after(tuner, moments[i]));
    OK(attune_tuner_free(tuner));
    printf("threads: a tuner of %u layers, width %u, %u tokens ends %.1f ms after it is cancelled, at most\n", info.layers, info.width, tokens, worst);
    CHECK(worst < 50);
    attune_session_options_default(&planned);
    planned.context = info.context;
    planned.prefill_batch = 512;
    OK(attune_session_new(model, &planned, &session, &error));
    size_t count = large ? tokens : 8;
    worst = 0;
    for (int i = 0; i < (large ? 6 : 2); i++) worst = larger(worst, answer_ends_after(session, ids, count, i ? moments[i] : 1));
    printf("threads: an answer, its prompt or its tokens, ends after %.1f ms\n", worst);
    CHECK(worst < 50);
    OK(attune_session_free(session));
    OK(attune_data_free(data));
    OK(attune_model_free(model));
    free(line);
    free(ids);
}

int main(int argc, char **argv) {
    CHECK(argc >= 2);
    at_once(argv[1]);
    if (argc > 2) cancels(argv[2], 1);
    puts("threads: all done");
    return 0;
}
