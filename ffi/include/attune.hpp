// attune.hpp - attune.h for C++17: handles that free themselves, errors as exceptions, callbacks as functions.
//
// Nothing is hidden: every class gives its C handle by get(), for what has no method here. Exceptions that a callback throws are
// kept, the call is ended, and they are thrown again when it has returned.
#ifndef ATTUNE_HPP
#define ATTUNE_HPP

#include <attune.h>

#include <exception>
#include <functional>
#include <initializer_list>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace attune {

/// What a call could not do, and why.
class Error : public std::runtime_error {
  public:
    Error(attune_status status, const attune_error &error)
        : std::runtime_error(error.message), status_(status), needed_bytes_(error.needed_bytes), detail_(error.detail) {}

    attune_status status() const noexcept { return status_; }
    const char *name() const noexcept { return attune_status_name(status_); }
    /// Bytes that would do, where a budget or given memory was too small.
    uint64_t needed_bytes() const noexcept { return needed_bytes_; }
    uint32_t detail() const noexcept { return detail_; }

  private:
    attune_status status_;
    uint64_t needed_bytes_;
    uint32_t detail_;
};

namespace detail {

inline attune_text text(std::string_view view) { return attune_text{view.data() ? view.data() : "", view.size()}; }

/// Makes a call with a place for its message, and throws where it fails.
template <typename Call> void check(Call &&call) {
    attune_error error = ATTUNE_INIT(attune_error);
    attune_status status = call(&error);
    if (status != ATTUNE_OK) throw Error(status, error);
}

/// A text that is copied out, however long it is.
template <typename Copy> std::string copied(Copy &&copy) {
    size_t length = 0;
    check([&](attune_error *e) { return copy(static_cast<char *>(nullptr), size_t{0}, &length, e); });
    std::string text(length + 1, '\0');
    check([&](attune_error *e) { return copy(text.data(), text.size(), &length, e); });
    text.resize(length);
    return text;
}

/// A function of the app's, and what it threw.
template <typename... Arguments> struct Callback {
    std::function<bool(Arguments...)> function;
    std::exception_ptr thrown;

    /// Calls it; a number other than 0 ends the call of the library.
    int32_t call(Arguments... arguments) noexcept {
        try {
            return function(arguments...) ? 0 : 1;
        } catch (...) {
            thrown = std::current_exception();
            return 1;
        }
    }

    void rethrow() {
        if (thrown) std::rethrow_exception(std::exchange(thrown, nullptr));
    }
};

template <typename T, attune_status (*Free)(T *)> struct Freed {
    void operator()(T *handle) const noexcept { Free(handle); }
};

template <typename T, attune_status (*Free)(T *)> class Handle {
  public:
    /// Takes over a handle.
    explicit Handle(T *handle) : handle_(handle) {}
    T *get() const noexcept { return handle_.get(); }

  private:
    std::unique_ptr<T, Freed<T, Free>> handle_;
};

template <typename T, typename Make> T *made(Make &&make) {
    T *handle = nullptr;
    check([&](attune_error *e) { return make(&handle, e); });
    return handle;
}

} // namespace detail

/// Options as their `_default` functions leave them.
inline attune_session_options session_options() {
    attune_session_options options;
    attune_session_options_default(&options);
    return options;
}

inline attune_generate_options generate_options() {
    attune_generate_options options;
    attune_generate_options_default(&options);
    return options;
}

inline attune_tune_options tune_options() {
    attune_tune_options options;
    attune_tune_options_default(&options);
    return options;
}

inline attune_run_options run_options() {
    attune_run_options options;
    attune_run_options_default(&options);
    return options;
}

/// A turn of a conversation.
struct Message {
    std::string role;
    std::string content;
};

namespace detail {
inline std::vector<attune_message> turns(const std::vector<Message> &messages) {
    std::vector<attune_message> turns;
    for (const Message &message : messages) turns.push_back({text(message.role), text(message.content)});
    return turns;
}
} // namespace detail

/// Ends calls from another thread.
class Cancel : public detail::Handle<attune_cancel, attune_cancel_free> {
  public:
    Cancel() : Handle(detail::made<attune_cancel>([](auto out, auto e) { return attune_cancel_new(out, e); })) {}
    void ask() {
        detail::check([&](auto e) { return attune_cancel_ask(get(), e); });
    }
    void take_back() {
        detail::check([&](auto e) { return attune_cancel_take_back(get(), e); });
    }
};

class Model : public detail::Handle<attune_model, attune_model_free> {
  public:
    using Handle::Handle;
    /// Opens a GGUF file.
    explicit Model(std::string_view path)
        : Handle(detail::made<attune_model>([&](auto out, auto e) { return attune_model_open(detail::text(path), out, e); })) {}

    attune_model_info info() const {
        attune_model_info info = ATTUNE_INIT(attune_model_info);
        detail::check([&](auto e) { return attune_model_get_info(get(), &info, e); });
        return info;
    }
    /// All that there is to know about it, as JSON.
    std::string describe() const {
        return detail::copied([&](char *to, size_t size, size_t *length, auto e) { return attune_model_describe(get(), to, size, length, e); });
    }
};

class Adapter : public detail::Handle<attune_adapter, attune_adapter_free> {
  public:
    using Handle::Handle;
    Adapter(const Model &model, std::string_view path, bool any_base = false)
        : Handle(detail::made<attune_adapter>(
              [&](auto out, auto e) { return attune_adapter_open(model.get(), detail::text(path), any_base, out, e); })) {}

    attune_adapter_info info() const {
        attune_adapter_info info = ATTUNE_INIT(attune_adapter_info);
        detail::check([&](auto e) { return attune_adapter_get_info(get(), &info, e); });
        return info;
    }
    void save(std::string_view path) const {
        detail::check([&](auto e) { return attune_adapter_save(get(), detail::text(path), e); });
    }
};

/// Examples, pairs, ratings or rankings.
class Data : public detail::Handle<attune_data, attune_data_free> {
  public:
    using Handle::Handle;
    Data() : Handle(detail::made<attune_data>([](auto out, auto e) { return attune_data_new(out, e); })) {}
    /// Opens a file of examples.
    explicit Data(std::string_view path)
        : Handle(detail::made<attune_data>([&](auto out, auto e) { return attune_data_open(detail::text(path), out, e); })) {}

    void add(const std::vector<Message> &messages) {
        auto turns = detail::turns(messages);
        detail::check([&](auto e) { return attune_data_add_example(get(), turns.data(), turns.size(), e); });
    }
    void add(std::string_view prompt, std::string_view answer) {
        detail::check([&](auto e) { return attune_data_add_answer(get(), detail::text(prompt), detail::text(answer), e); });
    }
    void add_pair(const std::vector<Message> &prompt, std::string_view chosen, std::string_view rejected) {
        auto turns = detail::turns(prompt);
        detail::check([&](auto e) {
            return attune_data_add_pair(get(), turns.data(), turns.size(), detail::text(chosen), detail::text(rejected), e);
        });
    }
    void add_rating(const std::vector<Message> &prompt, std::string_view answer, bool liked) {
        auto turns = detail::turns(prompt);
        detail::check([&](auto e) { return attune_data_add_rating(get(), turns.data(), turns.size(), detail::text(answer), liked, e); });
    }
    size_t count() const {
        size_t count = 0;
        detail::check([&](auto e) { return attune_data_count(get(), &count, e); });
        return count;
    }
};

/// An answer and how it ended.
struct Answer {
    std::string text;
    attune_generation details;
};

class Session : public detail::Handle<attune_session, attune_session_free> {
  public:
    using Handle::Handle;
    explicit Session(const Model &model, const attune_session_options &options = session_options())
        : Handle(detail::made<attune_session>([&](auto out, auto e) { return attune_session_new(model.get(), &options, out, e); })) {}

    /// Puts an adapter into use; its number in the session.
    uint32_t add(const Adapter &adapter, float scale = 1) {
        uint32_t index = 0;
        detail::check([&](auto e) { return attune_session_add_adapter(get(), adapter.get(), scale, &index, e); });
        return index;
    }
    void scale(uint32_t index, float scale) {
        detail::check([&](auto e) { return attune_session_scale_adapter(get(), index, scale, e); });
    }
    void reset() {
        detail::check([&](auto e) { return attune_session_reset(get(), e); });
    }

    /// Answers a conversation; `on_token` hears of the text as it comes, and ends the answer by returning false.
    Answer chat(const std::vector<Message> &messages, attune_generate_options options = generate_options(),
                std::function<bool(std::string_view)> on_token = nullptr) {
        auto turns = detail::turns(messages);
        return answer(options, std::move(on_token), [&](const attune_generate_options *o, attune_generation *made, attune_error *e) {
            return attune_session_chat(get(), turns.data(), turns.size(), o, made, e);
        });
    }

    /// Goes on with a text as it stands.
    Answer complete(std::string_view text, attune_generate_options options = generate_options(),
                    std::function<bool(std::string_view)> on_token = nullptr) {
        return answer(options, std::move(on_token), [&](const attune_generate_options *o, attune_generation *made, attune_error *e) {
            return attune_session_complete(get(), detail::text(text), o, made, e);
        });
    }

  private:
    using Listener = detail::Callback<std::string_view>;

    template <typename Call> Answer answer(attune_generate_options &options, std::function<bool(std::string_view)> on_token, Call &&call) {
        Listener listener{std::move(on_token), nullptr};
        if (listener.function) {
            options.user = &listener;
            options.on_token = [](void *user, attune_text text) -> int32_t {
                return static_cast<Listener *>(user)->call(std::string_view(text.data, text.length));
            };
        }
        attune_generation made = ATTUNE_INIT(attune_generation);
        detail::check([&](auto e) { return call(&options, &made, e); });
        listener.rethrow();
        return {detail::copied([&](char *to, size_t size, size_t *length, auto e) { return attune_session_text(get(), to, size, length, e); }),
                made};
    }
};

class Tuner : public detail::Handle<attune_tuner, attune_tuner_free> {
  public:
    using Handle::Handle;
    Tuner(const Model &model, const Data &data, const attune_tune_options &options = tune_options())
        : Handle(detail::made<attune_tuner>([&](auto out, auto e) { return attune_tuner_new(model.get(), data.get(), &options, out, e); })) {}

    /// Learns; `on_step` hears of each update, and pauses by returning false.
    attune_run run(attune_run_options options = run_options(), std::function<bool(const attune_progress &)> on_step = nullptr) {
        using Listener = detail::Callback<const attune_progress &>;
        Listener listener{std::move(on_step), nullptr};
        if (listener.function) {
            options.user = &listener;
            options.on_step = [](void *user, const attune_progress *progress) -> int32_t {
                return static_cast<Listener *>(user)->call(*progress);
            };
        }
        attune_run run = ATTUNE_INIT(attune_run);
        detail::check([&](auto e) { return attune_tuner_run(get(), &options, &run, e); });
        listener.rethrow();
        return run;
    }
    attune_progress progress() const {
        attune_progress progress = ATTUNE_INIT(attune_progress);
        detail::check([&](auto e) { return attune_tuner_get_progress(get(), &progress, e); });
        return progress;
    }
    Adapter adapter() {
        return Adapter(detail::made<attune_adapter>([&](auto out, auto e) { return attune_tuner_get_adapter(get(), out, e); }));
    }
    void checkpoint(std::string_view folder) {
        detail::check([&](auto e) { return attune_tuner_checkpoint(get(), detail::text(folder), e); });
    }
    void resume(std::string_view folder) {
        detail::check([&](auto e) { return attune_tuner_resume(get(), detail::text(folder), e); });
    }
};

/// What people made of the answers, on disk.
class Feedback : public detail::Handle<attune_feedback, attune_feedback_free> {
  public:
    using Handle::Handle;
    explicit Feedback(std::string_view path)
        : Handle(detail::made<attune_feedback>([&](auto out, auto e) { return attune_feedback_open(detail::text(path), nullptr, out, e); })) {}

    uint64_t add_prompt(const std::vector<Message> &prompt, std::string_view conversation = {}) {
        auto turns = detail::turns(prompt);
        attune_text name = conversation.empty() ? attune_text{nullptr, 0} : detail::text(conversation);
        return id([&](uint64_t *id, auto e) { return attune_feedback_add_prompt(get(), turns.data(), turns.size(), name, id, e); });
    }
    uint64_t add_answer(uint64_t prompt, std::string_view answer) {
        return id([&](uint64_t *id, auto e) { return attune_feedback_add_answer(get(), prompt, detail::text(answer), id, e); });
    }
    uint64_t add_edit(uint64_t answer, std::string_view edited) {
        return id([&](uint64_t *id, auto e) { return attune_feedback_add_edit(get(), answer, detail::text(edited), id, e); });
    }
    void add_thumb(uint64_t answer, uint32_t thumb) {
        detail::check([&](auto e) { return attune_feedback_add_thumb(get(), answer, thumb, e); });
    }
    /// Examples of what it says: `ATTUNE_LEARN_...`.
    Data data(uint32_t learn) {
        return Data(detail::made<attune_data>([&](auto out, auto e) { return attune_feedback_get_data(get(), learn, out, e); }));
    }
    uint64_t erase_conversation(std::string_view conversation) {
        return id([&](uint64_t *count, auto e) { return attune_feedback_erase_conversation(get(), detail::text(conversation), count, e); });
    }

  private:
    template <typename Call> static uint64_t id(Call &&call) {
        uint64_t id = 0;
        detail::check([&](auto e) { return call(&id, e); });
        return id;
    }
};

} // namespace attune

#endif
