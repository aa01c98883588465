/* Everything that a caller can do wrong, and that the library can see, is an error: misuse MODEL.gguf */
#define _POSIX_C_SOURCE 200809L
#include "check.h"
#include <pthread.h>

static attune_model *model;

/* NULL where something must be, for pointers of every kind. */
static void nulls(void) {
    attune_session *session = small_session(model, 0);
    attune_model *none = (attune_model *)0x77;
    attune_generate_options options = greedy(1);
    attune_message turn = say("user", "hi"), wordless = {attune_str("user"), {NULL, 0}};
    REFUSED(ATTUNE_ERROR_NULL, attune_model_open(attune_str("x"), NULL, &error));
    REFUSED(ATTUNE_ERROR_NULL, attune_model_open(attune_str(NULL), &none, &error));
    REFUSED(ATTUNE_ERROR_NULL, attune_session_new(NULL, NULL, &session, &error));
    REFUSED(ATTUNE_ERROR_NULL, attune_session_chat(NULL, &turn, 1, &options, NULL, &error));
    REFUSED(ATTUNE_ERROR_NULL, attune_session_chat(session, NULL, 1, &options, NULL, &error));
    REFUSED(ATTUNE_ERROR_NULL, attune_session_chat(session, &wordless, 1, &options, NULL, &error));
    REFUSED(ATTUNE_ERROR_OPTION, attune_session_chat(session, &turn, 0, &options, NULL, &error));
    REFUSED(ATTUNE_ERROR_NULL, attune_model_get_info(model, NULL, &error));
    REFUSED(ATTUNE_ERROR_NULL, attune_adapter_save(NULL, attune_str("x"), &error));
    REFUSED(ATTUNE_ERROR_NULL, attune_tuner_run(NULL, NULL, NULL, &error));
    REFUSED(ATTUNE_ERROR_NULL, attune_cancel_ask(NULL, &error));
    REFUSED(ATTUNE_ERROR_NULL, attune_data_add_answer(NULL, attune_str("a"), attune_str("b"), &error));
    CHECK(none == (attune_model *)0x77);
    /* Without a place for the message it is still an error. */
    CHECK(attune_session_reset(NULL, NULL) == ATTUNE_ERROR_NULL);
    CHECK(attune_model_free(NULL) == ATTUNE_OK && attune_session_free(NULL) == ATTUNE_OK && attune_tuner_free(NULL) == ATTUNE_OK);
    CHECK(attune_adapter_free(NULL) == ATTUNE_OK && attune_data_free(NULL) == ATTUNE_OK && attune_plan_free(NULL) == ATTUNE_OK);
    CHECK(attune_cancel_free(NULL) == ATTUNE_OK);
    OK(attune_session_free(session));
}

/* Structs of another version of the header, and addresses that no such struct can have. */
static void sizes(void) {
    attune_session *session = NULL;
    attune_session_options options;
    attune_model_info info = ATTUNE_INIT(attune_model_info);
    attune_error other = ATTUNE_INIT(attune_error);
    static const uint32_t wrong[] = {0, 4, sizeof options - 4, sizeof options + 8, UINT32_MAX};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        attune_session_options_default(&options);
        options.size = wrong[i];
        REFUSED(ATTUNE_ERROR_STRUCT_SIZE, attune_session_new(model, &options, &session, &error));
    }
    info.size -= 1;
    info.layers = 7;
    REFUSED(ATTUNE_ERROR_STRUCT_SIZE, attune_model_get_info(model, &info, &error));
    CHECK(session == NULL && info.layers == 7);
    other.size = 16;
    other.status = -7;
    CHECK(attune_session_reset(NULL, &other) == ATTUNE_ERROR_STRUCT_SIZE && other.status == -7);
    char room[2 * sizeof info];
    void *odd = room + 1 + (size_t)(-(uintptr_t)room) % 8;
    REFUSED(ATTUNE_ERROR_NULL, attune_model_get_info(model, (attune_model_info *)odd, &error));
    options.size = 0;
    attune_session_options_default(NULL);
    /* More room than the header's is used for a longer message, and a message that is cut ends between characters. */
    struct { attune_error head; char more[512]; } large = {ATTUNE_INIT(attune_error), {0}};
    char path[900];
    memset(path, 'x', sizeof path);
    memcpy(path + 470, "\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9", 26);
    attune_text text = {path, sizeof path};
    attune_model *none;
    large.head.size = sizeof large;
    CHECK(attune_model_open(text, &none, &large.head) == ATTUNE_ERROR_IO && strlen(large.head.message) > ATTUNE_MESSAGE_SIZE);
    CHECK(attune_model_open(text, &none, &error) == ATTUNE_ERROR_IO && error.message_length > ATTUNE_MESSAGE_SIZE);
    size_t length = strlen(error.message);
    CHECK(length < ATTUNE_MESSAGE_SIZE && length >= ATTUNE_MESSAGE_SIZE - 2 && ((unsigned char)error.message[length - 1] == 0xa9));
}

/* Handles that were freed, of another type, or never made. */
static void handles(void) {
    attune_session *session = small_session(model, 0);
    attune_data *data = ten_examples();
    attune_tune_options options = small_tuning();
    attune_tuner *tuner;
    int local = 0;
    REFUSED(ATTUNE_ERROR_HANDLE, attune_session_reset((attune_session *)model, &error));
    CHECK(strstr(error.message, "a model"));
    REFUSED(ATTUNE_ERROR_HANDLE, attune_session_reset((attune_session *)&local, &error));
    REFUSED(ATTUNE_ERROR_HANDLE, attune_session_reset((attune_session *)(uintptr_t)UINTPTR_MAX, &error));
    OK(attune_session_free(session));
    REFUSED(ATTUNE_ERROR_HANDLE, attune_session_reset(session, &error));
    CHECK(strstr(error.message, "freed"));
    CHECK(attune_session_free(session) == ATTUNE_ERROR_HANDLE);
    attune_session *next = small_session(model, 0);
    CHECK(next != session);
    REFUSED(ATTUNE_ERROR_HANDLE, attune_session_reset(session, &error));
    OK(attune_session_free(next));
    /* What was made of something keeps it. */
    attune_model *other;
    OK(attune_model_open_reader(NULL, attune_str("x"), &other, NULL) == ATTUNE_ERROR_NULL ? ATTUNE_OK : ATTUNE_ERROR_STATE);
    OK(attune_tuner_new(model, data, &options, &tuner, &error));
    OK(attune_data_free(data));
    OK(attune_tuner_free(tuner));
    REFUSED(ATTUNE_ERROR_HANDLE, attune_tuner_new(model, data, &options, &tuner, &error));
    attune_cancel *cancel;
    attune_generate_options how = greedy(1);
    OK(attune_cancel_new(&cancel, &error));
    OK(attune_cancel_free(cancel));
    how.cancel = cancel;
    next = small_session(model, 0);
    attune_message turn = say("user", "hi");
    REFUSED(ATTUNE_ERROR_HANDLE, attune_session_chat(next, &turn, 1, &how, NULL, &error));
    OK(attune_session_free(next));
}

/* Text that is none, and options that nothing can be made of. */
static void values(void) {
    attune_session *session = small_session(model, 0), *none = NULL;
    attune_generate_options how = greedy(1);
    attune_message turn = say("user", "a\xff" "b");
    size_t length = 99;
    char buffer[8];
    REFUSED(ATTUNE_ERROR_UTF8, attune_session_chat(session, &turn, 1, &how, NULL, &error));
    CHECK(strstr(error.message, "byte 1"));
    attune_text half = {"\xc3", 1};
    REFUSED(ATTUNE_ERROR_UTF8, attune_session_complete(session, half, &how, NULL, &error));
    REFUSED(ATTUNE_ERROR_UTF8, attune_model_open(half, (attune_model **)&none, &error));
    attune_text endless = {"x", SIZE_MAX};
    REFUSED(ATTUNE_ERROR_OPTION, attune_session_complete(session, endless, &how, NULL, &error));
    REFUSED(ATTUNE_ERROR_STATE, attune_session_text(session, buffer, sizeof buffer, &length, &error));
    CHECK(length == 99);
    attune_session_options options;
    attune_session_options_default(&options);
    options.kv_type = 99;
    REFUSED(ATTUNE_ERROR_OPTION, attune_session_new(model, &options, &none, &error));
    attune_session_options_default(&options);
    options.target = 5;
    REFUSED(ATTUNE_ERROR_OPTION, attune_session_new(model, &options, &none, &error));
    attune_session_options_default(&options);
    options.budget_bytes = 1000;
    REFUSED(ATTUNE_ERROR_BUDGET, attune_session_new(model, &options, &none, &error));
    CHECK(error.needed_bytes > 1000);
    options.budget_bytes = error.needed_bytes;
    OK(attune_session_new(model, &options, &none, &error));
    OK(attune_session_free(none));
    how.temperature = -1;
    REFUSED(ATTUNE_ERROR_OPTION, attune_session_complete(session, attune_str("x"), &how, NULL, &error));
    uint32_t ids[2] = {1, 4000000000u};
    how = greedy(1);
    REFUSED(ATTUNE_ERROR_OPTION, attune_session_continue(session, ids, 2, &how, NULL, &error));
    attune_model *damaged;
    REFUSED(ATTUNE_ERROR_MODEL, attune_model_open_memory("not a model, but long enough to look at it", 40, NULL, NULL, attune_str("text"), &damaged, &error));
    REFUSED(ATTUNE_ERROR_IO, attune_model_open(attune_str("/nowhere/model.gguf"), &damaged, &error));
    REFUSED(ATTUNE_ERROR_OPTION, attune_model_open_descriptor(-1, 0, 0, attune_str("none"), &damaged, &error));
    REFUSED(ATTUNE_ERROR_IO, attune_model_open_descriptor(999, 0, 0, attune_str("none"), &damaged, &error));
    attune_adapter *adapter;
    REFUSED(ATTUNE_ERROR_IO, attune_adapter_open(model, attune_str("/nowhere"), 0, &adapter, &error));
    attune_data *data, *pairs;
    OK(attune_data_new(&data, &error));
    REFUSED(ATTUNE_ERROR_DATA, attune_data_add_lines(data, attune_str("{\"text\": \"a\"}\n[1]\n"), &error));
    CHECK(strstr(error.message, "line 2"));
    attune_tuner *tuner;
    REFUSED(ATTUNE_ERROR_DATA, attune_tuner_new(model, data, NULL, &tuner, &error));
    OK(attune_data_free(data));
    data = ten_examples();
    turn = say("user", "hi");
    REFUSED(ATTUNE_ERROR_STATE, attune_data_add_pair(data, &turn, 1, attune_str("a"), attune_str("b"), &error));
    attune_tune_options tune = small_tuning();
    tune.method = attune_str("ppo");
    REFUSED(ATTUNE_ERROR_OPTION, attune_tuner_new(model, data, &tune, &tuner, &error));
    tune = small_tuning();
    tune.target_modules = 1u << 9;
    REFUSED(ATTUNE_ERROR_OPTION, attune_tuner_new(model, data, &tune, &tuner, &error));
    tune = small_tuning();
    tune.rank = 100000;
    REFUSED(ATTUNE_ERROR_OPTION, attune_tuner_new(model, data, &tune, &tuner, &error));
    OK(attune_data_new(&pairs, &error));
    tune = small_tuning();
    tune.guard = pairs;
    REFUSED(ATTUNE_ERROR_OPTION, attune_tuner_new(model, data, &tune, &tuner, &error));
    OK(attune_data_free(pairs));
    OK(attune_data_free(data));
    OK(attune_session_free(session));
}

/* Calls on a handle that is at work: from its own callback, and from another thread. */
static attune_session *busy;
static pthread_barrier_t inside, seen;

static int from_callback(void *user, attune_text text) {
    (void)text;
    *(int *)user += 1;
    attune_error mine = ATTUNE_INIT(attune_error);
    attune_message turn = say("user", "hi");
    CHECK(attune_session_chat(busy, &turn, 1, NULL, NULL, &mine) == ATTUNE_ERROR_BUSY && strstr(mine.message, "callback"));
    CHECK(attune_session_free(busy) == ATTUNE_ERROR_BUSY);
    attune_model_info info = ATTUNE_INIT(attune_model_info);
    CHECK(attune_model_get_info(model, &info, &mine) == ATTUNE_OK);
    pthread_barrier_wait(&inside);
    pthread_barrier_wait(&seen);
    return 1;
}

static void *from_thread(void *unused) {
    (void)unused;
    attune_error mine = ATTUNE_INIT(attune_error);
    pthread_barrier_wait(&inside);
    CHECK(attune_session_reset(busy, &mine) == ATTUNE_ERROR_BUSY);
    pthread_barrier_wait(&seen);
    return NULL;
}

static void work(void) {
    int heard = 0;
    attune_generate_options how = greedy(8);
    attune_generation made = ATTUNE_INIT(attune_generation);
    attune_message turn = say("user", "What does a cow say?");
    pthread_t thread;
    pthread_barrier_init(&inside, NULL, 2);
    pthread_barrier_init(&seen, NULL, 2);
    busy = small_session(model, 0);
    how.on_token = from_callback;
    how.user = &heard;
    CHECK(pthread_create(&thread, NULL, from_thread, NULL) == 0);
    OK(attune_session_chat(busy, &turn, 1, &how, &made, &error));
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(heard == 1 && made.finish_reason == ATTUNE_FINISH_CANCELLED);
    OK(attune_session_reset(busy, &error));
    OK(attune_session_free(busy));
}

int main(int argc, char **argv) {
    CHECK(argc == 2);
    CHECK(attune_abi_version() == ATTUNE_ABI_VERSION);
    CHECK(strcmp(attune_status_name(ATTUNE_ERROR_BUSY), "ATTUNE_ERROR_BUSY") == 0 && strcmp(attune_status_name(-1), "unknown") == 0);
    OK(attune_model_open(attune_str(argv[1]), &model, &error));
    nulls();
    sizes();
    handles();
    values();
    work();
    OK(attune_model_free(model));
    puts("misuse: all refused");
    return 0;
}
