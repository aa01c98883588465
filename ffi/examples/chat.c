/* A conversation in the terminal: chat MODEL.gguf [ADAPTER]
 *
 * Each line is a turn; an empty one, or the end of the input, ends the program. Ctrl-C ends the answer that is under way. */
#include <attune.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#define TURNS 64

static attune_error error = ATTUNE_INIT(attune_error);
static volatile sig_atomic_t interrupted;

static void must(attune_status status) {
    if (status != ATTUNE_OK) {
        fprintf(stderr, "%s: %s\n", attune_status_name(status), error.message);
        exit(1);
    }
}

static void interrupt(int number) {
    (void)number;
    interrupted = 1;
}

/* Prints the answer as it comes. A number other than 0 ends it. */
static int print(void *unused, attune_text text) {
    (void)unused;
    fwrite(text.data, 1, text.length, stdout);
    fflush(stdout);
    return interrupted;
}

static char *copy(const char *text, size_t length) {
    char *mine = malloc(length + 1);
    if (!mine) exit(1);
    memcpy(mine, text, length);
    mine[length] = 0;
    return mine;
}

int main(int argc, char **argv) {
    attune_model *model;
    attune_adapter *adapter = NULL;
    attune_session *session;
    attune_session_options options;
    attune_generate_options how;
    attune_message turns[TURNS];
    size_t count = 0;
    char line[2048];

    if (argc < 2 || argc > 3) {
        fprintf(stderr, "usage: chat MODEL.gguf [ADAPTER]\n");
        return 2;
    }
    must(attune_model_open(attune_str(argv[1]), &model, &error));
    attune_session_options_default(&options);
    if (argc == 3) {
        attune_adapter_info info = ATTUNE_INIT(attune_adapter_info);
        must(attune_adapter_open(model, attune_str(argv[2]), 0, &adapter, &error));
        must(attune_adapter_get_info(adapter, &info, &error));
        options.max_rank = info.rank;
        options.adapter_bytes = info.parameters * 4;
    }
    must(attune_session_new(model, &options, &session, &error));
    if (adapter) must(attune_session_add_adapter(session, adapter, 1, NULL, &error));

    attune_generate_options_default(&how);
    how.on_token = print;
    signal(SIGINT, interrupt);
    while (count + 2 <= TURNS && printf("> ") && fflush(stdout) == 0 && fgets(line, sizeof line, stdin)) {
        size_t length = strcspn(line, "\n");
        attune_generation made = ATTUNE_INIT(attune_generation);
        if (length == 0) break;
        turns[count].role = attune_str("user");
        turns[count++].content = attune_str(copy(line, length));
        interrupted = 0;
        must(attune_session_chat(session, turns, count, &how, &made, &error));
        /* The whole answer, for the next turn. */
        char *text = malloc((size_t)made.text_length + 1);
        if (!text) exit(1);
        must(attune_session_text(session, text, (size_t)made.text_length + 1, NULL, &error));
        turns[count].role = attune_str("assistant");
        turns[count++].content = attune_str(text);
        printf("\n");
    }

    for (size_t i = 0; i < count; i++) free((void *)turns[i].content.data);
    attune_session_free(session);
    attune_adapter_free(adapter);
    attune_model_free(model);
    return 0;
}
