/* How long it takes from asking for an end to the return of the call, for answers and for tuning: cancel MODEL.gguf [MILLISECONDS]
 *
 * Fails where one of them is longer than so many milliseconds; 2000 by default, since the machine may have others to serve. */
#define _DEFAULT_SOURCE
#include "check.h"
#include <pthread.h>
#include <time.h>

static double now(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (double)at.tv_sec * 1e3 + (double)at.tv_nsec / 1e6;
}

static void sleep_for(double milliseconds) {
    struct timespec time = {(time_t)(milliseconds / 1e3), (long)((milliseconds - 1e3 * (double)(long)(milliseconds / 1e3)) * 1e6)};
    nanosleep(&time, NULL);
}

struct asking {
    attune_cancel *cancel;
    double after, at;
};

static void *ask(void *argument) {
    struct asking *asking = argument;
    sleep_for(asking->after);
    asking->at = now();
    OK(attune_cancel_ask(asking->cancel, &error));
    return NULL;
}

struct work {
    attune_session *session;
    attune_tuner *tuner;
    attune_text text;
    attune_cancel *cancel;
};

static void answer(struct work *work) {
    attune_generate_options how = greedy(400);
    attune_generation made = ATTUNE_INIT(attune_generation);
    how.cancel = work->cancel;
    OK(attune_session_reset(work->session, &error));
    OK(attune_session_complete(work->session, work->text, &how, &made, &error));
    /* A small model may have said all before it was asked. */
    CHECK(made.answer_tokens > 0 || made.finish_reason == ATTUNE_FINISH_CANCELLED);
}

static void tune(struct work *work) {
    attune_run_options run;
    attune_run outcome = ATTUNE_INIT(attune_run);
    attune_run_options_default(&run);
    run.cancel = work->cancel;
    OK(attune_tuner_run(work->tuner, &run, &outcome, &error));
    CHECK(outcome.reason == ATTUNE_RUN_CANCELLED);
}

/* Asks at several times after the start; the longest wait, in milliseconds. */
static double longest(const char *name, void (*call)(struct work *), struct work *work) {
    double longest = 0;
    for (int i = 0; i < 12; i++) {
        struct asking asking = {work->cancel, 3 + 17 * i, 0};
        pthread_t thread;
        OK(attune_cancel_take_back(work->cancel, &error));
        CHECK(pthread_create(&thread, NULL, ask, &asking) == 0);
        call(work);
        double back = now();
        CHECK(pthread_join(thread, NULL) == 0);
        double wait = back - asking.at;
        longest = wait > longest ? wait : longest;
    }
    printf("cancel: %s, back after at most %.1f ms\n", name, longest);
    return longest;
}

int main(int argc, char **argv) {
    static char text[2000];
    attune_model *model;
    attune_model_info info = ATTUNE_INIT(attune_model_info);
    struct work work;
    CHECK(argc == 2 || argc == 3);
    double bound = argc == 3 ? atof(argv[2]) : 2000, wait = 0;
    OK(attune_model_open(attune_str(argv[1]), &model, &error));
    OK(attune_model_get_info(model, &info, &error));
    OK(attune_cancel_new(&work.cancel, &error));
    for (size_t i = 0; i + 8 < sizeof text; i += 8) memcpy(text + i, "the cow ", 8);
    work.text = attune_str(text);

    attune_session_options session;
    attune_session_options_default(&session);
    session.context = 2048;
    OK(attune_session_new(model, &session, &work.session, &error));
    double waited = longest("an answer to a long prompt", answer, &work);
    wait = waited > wait ? waited : wait;
    OK(attune_session_free(work.session));

    static const char *const methods[] = {NULL, "dpo", "reward"};
    for (int method = 0; method < 3; method++) {
        attune_data *data;
        attune_tune_options options;
        OK(attune_data_new(&data, &error));
        for (int i = 0; i < 64; i++) {
            attune_message turn = say("user", "What does the cow say to the other cow?");
            char better[600], worse[600];
            snprintf(better, sizeof better, "%d: %.500s", i, text);
            snprintf(worse, sizeof worse, "%d: no, %.480s", i, text);
            if (methods[method]) OK(attune_data_add_pair(data, &turn, 1, attune_str(better), attune_str(worse), &error));
            else OK(attune_data_add_answer(data, turn.content, attune_str(better), &error));
        }
        attune_tune_options_default(&options);
        options.method = attune_str(methods[method]);
        options.max_length = 256;
        options.epochs = 100000;
        OK(attune_tuner_new(model, data, &options, &work.tuner, &error));
        waited = longest(methods[method] ? methods[method] : "supervised tuning", tune, &work);
        wait = waited > wait ? waited : wait;
        OK(attune_tuner_free(work.tuner));
        OK(attune_data_free(data));
    }
    OK(attune_cancel_free(work.cancel));
    OK(attune_model_free(model));
    CHECK(wait <= bound);
    return 0;
}
