"""``llm_query`` and ``llm_batch`` through the LM handler."""

# ruff: noqa: E501 - cells are shorter to read on one line each

import time


def test_a_query_comes_back_as_text(kernel, sub_model):
    assert kernel.value("llm_query('hi')") == "echo: hi"
    assert sub_model.prompts == ["hi"]


def test_prompts_that_are_not_text_are_made_text(kernel, sub_model):
    kernel.run("llm_query(42); llm_batch([1, None])")
    assert sorted(sub_model.prompts) == ["1", "42", "None"]


def test_a_batch_keeps_its_order_and_runs_at_once(kernel, sub_model):
    sub_model.delay_s = 0.1
    began = time.monotonic()
    assert (
        kernel.value("llm_batch([str(i) for i in range(100)]) == [f'echo: {i}' for i in range(100)]")
        == "True"
    )
    assert time.monotonic() - began < 3
    assert kernel.value("(llm_query_batched is llm_batch, llm_batch([]))") == "(True, [])"


def test_calls_from_several_threads_get_their_own_replies(kernel):
    code = (
        "from concurrent.futures import ThreadPoolExecutor\n"
        "with ThreadPoolExecutor(8) as pool:\n"
        "    replies = list(pool.map(llm_query, map(str, range(40))))\n"
        "print(replies == [f'echo: {i}' for i in range(40)])"
    )
    assert kernel.run(code).output == "True\n"


def test_a_refused_call_is_an_error_of_the_cell(kernel, sub_model):
    sub_model.refusal = "dear"
    result = kernel.run("x = 1\nllm_query('dear')")
    assert result.error == "LLMError: the budget of sub-calls is used up"
    assert kernel.value("x") == "1"
    assert (
        kernel.run("try:\n    llm_query('dear')\nexcept LLMError as e:\n    print('caught', e)").output
        == "caught the budget of sub-calls is used up\n"
    )


def test_a_batch_has_an_error_in_the_place_of_each_call_that_failed_and_the_model_is_told(kernel, sub_model):
    sub_model.refusal = "dear"
    result = kernel.run("got = llm_batch(['a', 'dear', 'b', 'dear 2'])\n[str(each) for each in got if each]")
    assert result.output == (
        "llm_batch: 2 of 4 calls failed; the first: the budget of sub-calls is used up\n"
        "['echo: a', 'echo: b']\n"
    )
    assert kernel.value("[isinstance(got[1], LLMError), bool(got[1]), str(got[1])]") == (
        "[True, False, 'the budget of sub-calls is used up']"
    )
    assert len(sub_model.prompts) == 4


def test_what_failed_is_saved_with_the_other_variables(kernel, sub_model):
    sub_model.refusal = "dear"
    kernel.run("got = llm_batch(['a', 'dear'])")
    assert [variable.status for variable in kernel.snapshot().variables] == ["saved"]


def test_a_context_stands_before_every_prompt_and_its_texts_are_named(kernel, sub_model):
    kernel.run("llm_batch(['how many?', 'which?'], context='two words')")
    assert sorted(sub_model.prompts) == ["two words\n\nhow many?", "two words\n\nwhich?"]
    kernel.run("llm_query('which?', context={'a.txt': 'one', 'b.txt': 'two'})")
    assert sub_model.prompts[-1] == "## a.txt\n\none\n\n## b.txt\n\ntwo\n\nwhich?"


def test_what_is_too_large_to_send_is_an_error_of_the_cell_and_not_its_end(kernel):
    for call in (
        "llm_query('x' * 70_000_000)",
        "llm_query('x', schema={'enum': ['x' * 2_000_000]})",
        "rlm_query('x', 'x' * 70_000_000)",
        "rlm_query('x', ['x'] * 20_000)",
        "rlm_query('x', {'n' * 2000: 'x'})",
    ):
        result = kernel.run(call)
        assert result.end == "raised", call
        assert result.error.startswith("ValueError: "), result.error


def test_a_schema_that_is_no_json_or_a_wrong_shape_is_an_error_of_the_cell(kernel):
    assert "TypeError" in kernel.run("llm_query('x', schema={'enum': [{1, 2}]})").error
    assert "TypeError: schema takes" in kernel.run("llm_query('x', schema='integer')").error
    assert "TypeError: rlm_batch takes" in kernel.run("rlm_batch(['x'])").error


def test_where_there_are_no_sessions_the_model_is_told_so(kernel):
    assert kernel.run("rlm_query('x', 'y')").error == "LLMError: not available in this session"


def test_a_fault_of_the_sub_model_does_not_leave_the_cell_waiting(start):
    class Broken:
        async def query(self, prompt):
            raise RuntimeError("secret detail")

    result = start(model=Broken()).run("llm_query('x')")
    assert "the call failed (RuntimeError)" in result.error
    assert "secret" not in result.output


def test_waiting_for_sub_calls_does_not_count_against_the_time_out(start, sub_model):
    sub_model.delay_s = 0.8
    kernel = start(timeout_s=0.4)
    result = kernel.run("print(llm_query('slow'))")
    assert result.end == "ok"
    assert result.seconds < 0.4


def test_a_killed_cell_cancels_its_calls_and_late_replies_are_dropped(start, sub_model):
    kernel = start(timeout_s=0.3, grace_s=0.2)
    result = kernel.run(
        "import threading\nfor i in range(3): threading.Thread(target=llm_query, args=(f'wait {i}',)).start()\nimport os, time\ntime.sleep(0.2); os._exit(1)"
    )
    assert result.end == "died"
    assert sub_model.cancelled == 3
    assert kernel.value("llm_query('after')") == "echo: after"


def test_an_interrupted_call_leaves_the_line_usable(start):
    kernel = start(timeout_s=0.2, grace_s=2)
    kernel.run(
        "import os, signal, threading\nthreading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()\ntry:\n    llm_query('wait')\nexcept KeyboardInterrupt:\n    print('stopped')"
    )
    assert kernel.value("llm_query('next')") == "echo: next"


def test_large_prompts_and_replies_cross_whole(kernel, sub_model):
    assert kernel.value("len(llm_query('é' * 1_000_000))") == "1000006"
    assert sub_model.prompts == ["é" * 1_000_000]


def test_a_malformed_frame_ends_the_kernel_and_never_reaches_the_sub_model(kernel, sub_model):
    for frame in (
        "b'garbage that is no frame at all'",
        "wire.encode({'type': 'query', 'id': -1}, b'x')",
        "wire.encode({'type': 'query', 'id': True}, b'x')",
        "wire.encode({'type': 'pay', 'id': 1}, b'x')",
        "wire.encode({'type': 'query', 'id': 1}, b'\\xff')",
        "wire.encode({'type': 'query', 'id': 7, 'more': 1}, b'x')",
    ):
        code = f"import os, time\nfrom loop_runner.kernel import wire\nfd = llm_query.__self__._models._fd\nos.write(fd, {frame})\ntime.sleep(5)"
        result = kernel.run(code)
        assert result.end == "died", frame
        assert "the kernel was ended" in result.error, frame
    assert sub_model.prompts == []
    assert kernel.value("llm_query('fine')") == "echo: fine"
