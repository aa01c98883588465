/* Every struct's layout, in numbers, for 32 and 64 bits: what a program was built with stays what the library reads. Compiling it is the test. */
#include <attune.h>

#define POINTER sizeof(void *)
#define AT(type, field, of_64, of_32) \
    _Static_assert(offsetof(type, field) == (POINTER == 8 ? (of_64) : (of_32)), #type "." #field)
/* Systems with 32 bits differ in whether 8-byte numbers are aligned to 8, and so in where structs end. */
#define SIZE(type, of_64, of_32) \
    _Static_assert(sizeof(type) == (POINTER == 8 ? (of_64) : ((of_32) + _Alignof(type) - 1) / _Alignof(type) * _Alignof(type)), #type)

SIZE(attune_error, 512, 512);
AT(attune_error, status, 4, 4);
AT(attune_error, needed_bytes, 8, 8);
AT(attune_error, detail, 16, 16);
AT(attune_error, message_length, 20, 20);
AT(attune_error, message, 24, 24);

SIZE(attune_text, 16, 8);
AT(attune_text, length, 8, 4);
SIZE(attune_message, 32, 16);
AT(attune_message, content, 16, 8);

SIZE(attune_reader, 32, 24);
AT(attune_reader, length, 8, 8);
AT(attune_reader, read_at, 16, 16);
AT(attune_reader, user, 24, 20);
SIZE(attune_model_info, 48, 48);
AT(attune_model_info, has_tokenizer, 36, 36);
AT(attune_model_info, file_bytes, 40, 40);

SIZE(attune_plan_totals, 56, 56);
AT(attune_plan_totals, total_bytes, 8, 8);
SIZE(attune_plan_buffer, 128, 128);
AT(attune_plan_buffer, shape, 8, 8);
AT(attune_plan_buffer, bytes, 40, 40);
AT(attune_plan_buffer, name, 48, 48);
AT(attune_plan_buffer, element_type, 112, 112);

SIZE(attune_session_options, 48, 48);
AT(attune_session_options, adapter_bytes, 32, 32);
AT(attune_session_options, budget_bytes, 40, 40);
SIZE(attune_generate_options, 80, 60);
AT(attune_generate_options, seed, 32, 32);
AT(attune_generate_options, stop, 40, 40);
AT(attune_generate_options, stop_count, 48, 44);
AT(attune_generate_options, on_token, 56, 48);
AT(attune_generate_options, user, 64, 52);
AT(attune_generate_options, cancel, 72, 56);
SIZE(attune_generation, 24, 24);
AT(attune_generation, text_length, 16, 16);

SIZE(attune_adapter_info, 48, 48);
AT(attune_adapter_info, parameters, 32, 32);

SIZE(attune_tune_options, 288, 252);
AT(attune_tune_options, learning_rate, 32, 32);
AT(attune_tune_options, batch_size, 64, 64);
AT(attune_tune_options, reference, 100, 100);
AT(attune_tune_options, warmup, 104, 104);
AT(attune_tune_options, budget_bytes, 144, 144);
AT(attune_tune_options, method, 152, 152);
AT(attune_tune_options, loss_type, 168, 160);
AT(attune_tune_options, beta, 184, 168);
AT(attune_tune_options, guard_tolerance, 232, 216);
AT(attune_tune_options, held_out, 248, 232);
AT(attune_tune_options, cancel, 272, 244);
AT(attune_tune_options, reinforce, 280, 248);

SIZE(attune_progress, 112, 112);
AT(attune_progress, loss, 32, 32);
AT(attune_progress, reward, 80, 80);
AT(attune_progress, grad_norm, 104, 104);
SIZE(attune_run_options, 40, 28);
AT(attune_run_options, on_step, 16, 16);
AT(attune_run_options, cancel, 32, 24);
SIZE(attune_run, 16, 16);

SIZE(attune_evaluate_options, 48, 40);
AT(attune_evaluate_options, budget_bytes, 24, 24);
AT(attune_evaluate_options, cancel, 40, 36);
SIZE(attune_evaluation, 40, 40);
AT(attune_evaluation, loss, 16, 16);

SIZE(attune_feedback_options, 24, 24);
AT(attune_feedback_options, max_bytes, 16, 16);
SIZE(attune_reward_options, 32, 32);
AT(attune_reward_options, budget_bytes, 24, 24);
SIZE(attune_reinforce_options, 96, 76);
AT(attune_reinforce_options, max_kl, 32, 32);
AT(attune_reinforce_options, rewards, 56, 56);
AT(attune_reinforce_options, reward_count, 72, 64);
AT(attune_reinforce_options, on_reward, 80, 68);
AT(attune_reinforce_options, user, 88, 72);

int main(void) {
    return 0;
}
