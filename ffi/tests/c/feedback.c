/* What a person made of answers is kept, learnt from, exported and erased: feedback MODEL.gguf FOLDER */
#include "check.h"

int main(int argc, char **argv) {
    char path[600], exported[600];
    attune_model *model;
    attune_feedback *store, *second;
    attune_data *data;
    attune_message prompt = say("user", "What does a cow say?");
    uint64_t asked, answers[3], edited, gone;
    size_t count, length;
    char text[4096];
    CHECK(argc == 3);
    snprintf(path, sizeof path, "%s/store", argv[2]);
    snprintf(exported, sizeof exported, "%s/pairs.jsonl", argv[2]);
    OK(attune_model_open(attune_str(argv[1]), &model, &error));
    attune_feedback_options options;
    attune_feedback_options_default(&options);
    options.max_bytes = 100;
    REFUSED(ATTUNE_ERROR_FEEDBACK, attune_feedback_open(attune_str(path), &options, &store, &error));
    OK(attune_feedback_open(attune_str(path), NULL, &store, &error));
    REFUSED(ATTUNE_ERROR_FEEDBACK, attune_feedback_open(attune_str(path), NULL, &second, &error));
    REFUSED(ATTUNE_ERROR_NOTHING_TO_LEARN, attune_feedback_get_data(store, ATTUNE_LEARN_PAIRS, &data, &error));
    OK(attune_feedback_add_prompt(store, &prompt, 1, attune_str("one"), &asked, &error));
    OK(attune_feedback_add_answer(store, asked, attune_str("woof"), &answers[0], &error));
    OK(attune_feedback_add_answer(store, asked, attune_str("moo"), &answers[1], &error));
    OK(attune_feedback_add_answer(store, asked, attune_str("meow"), &answers[2], &error));
    OK(attune_feedback_add_thumb(store, answers[0], ATTUNE_THUMB_DOWN, &error));
    OK(attune_feedback_add_thumb(store, answers[1], ATTUNE_THUMB_UP, &error));
    REFUSED(ATTUNE_ERROR_OPTION, attune_feedback_add_thumb(store, answers[1], 7, &error));
    REFUSED(ATTUNE_ERROR_FEEDBACK, attune_feedback_add_thumb(store, 12345, ATTUNE_THUMB_UP, &error));
    REFUSED(ATTUNE_ERROR_FEEDBACK, attune_feedback_add_answer(store, answers[0], attune_str("x"), NULL, &error));
    OK(attune_feedback_add_edit(store, answers[2], attune_str("a cow says moo"), &edited, &error));
    uint64_t order[2] = {answers[1], answers[2]};
    OK(attune_feedback_add_rank(store, order, 2, &error));
    OK(attune_feedback_add_regenerated(store, answers[2], attune_str("mooo"), &edited, &error));
    OK(attune_feedback_add_kept(store, edited, &error));
    OK(attune_feedback_flush(store, &error));
    OK(attune_feedback_describe(store, ATTUNE_LEARN_PAIRS, text, sizeof text, &length, &error));
    CHECK(length < sizeof text && strstr(text, "\"thumbs\":2") && strstr(text, "\"edits\":1"));
    OK(attune_feedback_export(store, ATTUNE_LEARN_PAIRS, attune_str(exported), &count, &error));
    CHECK(count >= 2);
    OK(attune_data_open(attune_str(exported), &data, &error));
    size_t of_file;
    OK(attune_data_count(data, &of_file, &error));
    CHECK(of_file == count);
    REFUSED(ATTUNE_ERROR_STATE, attune_data_add_answer(data, attune_str("a"), attune_str("b"), &error));
    OK(attune_data_free(data));
    static const struct {
        uint32_t learn;
        const char *method;
    } kinds[] = {{ATTUNE_LEARN_EXAMPLES, NULL}, {ATTUNE_LEARN_PAIRS, "dpo"}, {ATTUNE_LEARN_RATINGS, "kto"}, {ATTUNE_LEARN_RANKINGS, "plackett_luce"}};
    for (int i = 0; i < 4; i++) {
        attune_tune_options tune = small_tuning();
        attune_tuner *tuner;
        attune_run run = ATTUNE_INIT(attune_run);
        OK(attune_feedback_get_data(store, kinds[i].learn, &data, &error));
        tune.method = attune_str(kinds[i].method);
        tune.steps = 2;
        OK(attune_tuner_new(model, data, &tune, &tuner, &error));
        OK(attune_data_free(data));
        OK(attune_tuner_run(tuner, NULL, &run, &error));
        CHECK(run.reason == ATTUNE_RUN_DONE && run.steps == 2);
        OK(attune_tuner_free(tuner));
    }
    OK(attune_feedback_export_events(store, attune_str(exported), &count, &error));
    CHECK(count == 10);
    OK(attune_feedback_erase_conversation(store, attune_str("one"), &gone, &error));
    CHECK(gone == 10);
    REFUSED(ATTUNE_ERROR_NOTHING_TO_LEARN, attune_feedback_get_data(store, ATTUNE_LEARN_PAIRS, &data, &error));
    OK(attune_feedback_erase(store, &asked, 1, &gone, &error));
    OK(attune_feedback_erase_all(store, &gone, &error));
    CHECK(gone == 0);
    OK(attune_feedback_free(store));
    REFUSED(ATTUNE_ERROR_HANDLE, attune_feedback_flush(store, &error));
    OK(attune_feedback_open(attune_str(path), NULL, &second, &error));
    OK(attune_feedback_free(second));
    OK(attune_model_free(model));
    puts("feedback: all done");
    return 0;
}
