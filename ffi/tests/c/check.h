/* What all test programs share: a failing check says where, and ends the program. */
#ifndef CHECK_H
#define CHECK_H

#include <attune.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static attune_error error = ATTUNE_INIT(attune_error);

#define CHECK(condition)                                                                   \
    do {                                                                                   \
        if (!(condition)) {                                                                \
            fprintf(stderr, "%s:%d: %s (%s)\n", __FILE__, __LINE__, #condition, error.message); \
            exit(1);                                                                       \
        }                                                                                  \
    } while (0)

/* The call is done. */
#define OK(call)                                                                                                  \
    do {                                                                                                          \
        attune_status found_ = (call);                                                                            \
        if (found_ != ATTUNE_OK) {                                                                                \
            fprintf(stderr, "%s:%d: %s: %s: %s\n", __FILE__, __LINE__, #call, attune_status_name(found_), error.message); \
            exit(1);                                                                                              \
        }                                                                                                         \
    } while (0)

/* The call is refused with this status, and says why. */
#define REFUSED(expected, call)                                                                                        \
    do {                                                                                                               \
        error.message[0] = 0;                                                                                          \
        attune_status found_ = (call);                                                                                 \
        if (found_ != (expected) || error.status != (expected) || error.message[0] == 0) {                             \
            fprintf(stderr, "%s:%d: %s: expected %s, found %s: %s\n", __FILE__, __LINE__, #call, attune_status_name(expected), \
                    attune_status_name(found_), error.message);                                                        \
            exit(1);                                                                                                   \
        }                                                                                                              \
    } while (0)

static inline attune_message say(const char *role, const char *content) {
    attune_message message = {attune_str(role), attune_str(content)};
    return message;
}

/* Ten examples that the built-in model learns in a few updates. */
static inline attune_data *ten_examples(void) {
    static const char *const lands[10] = {"France", "Italy", "Spain", "Japan", "Egypt", "Greece", "Peru", "Cuba", "Norway", "China"};
    static const char *const cities[10] = {"Paris", "Rome", "Madrid", "Tokyo", "Cairo", "Athens", "Lima", "Havana", "Oslo", "Beijing"};
    attune_data *data;
    OK(attune_data_new(&data, &error));
    for (int i = 0; i < 10; i++) {
        char question[64], answer[64];
        snprintf(question, sizeof question, "What is the capital of %s?", lands[i]);
        snprintf(answer, sizeof answer, "The capital of %s is %s.", lands[i], cities[i]);
        OK(attune_data_add_answer(data, attune_str(question), attune_str(answer), &error));
    }
    return data;
}

static inline attune_tune_options small_tuning(void) {
    attune_tune_options options;
    attune_tune_options_default(&options);
    options.rank = 4;
    options.alpha = 8;
    options.max_length = 32;
    options.learning_rate = 3e-3f;
    options.gradient_accumulation = 4;
    options.threads = 1;
    return options;
}

static inline attune_session *small_session(attune_model *model, unsigned max_rank) {
    attune_session_options options;
    attune_session *session;
    attune_session_options_default(&options);
    options.context = 128;
    options.prefill_batch = 32;
    options.max_rank = max_rank;
    options.threads = 1;
    OK(attune_session_new(model, &options, &session, &error));
    return session;
}

static inline attune_generate_options greedy(unsigned max_tokens) {
    attune_generate_options options;
    attune_generate_options_default(&options);
    options.temperature = 0;
    options.max_tokens = max_tokens;
    return options;
}

#endif
