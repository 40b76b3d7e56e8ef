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


def test_a_batch_with_failures_raises_after_all_finished_with_their_number(kernel, sub_model):
    sub_model.refusal = "dear"
    result = kernel.run("llm_batch(['a', 'dear', 'b', 'dear 2'])")
    assert "2 of 4 sub-model calls failed" in result.error
    assert len(sub_model.prompts) == 4


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
