"""What of a conversation is sent: whole, with older outputs cut, or summed up."""

from hypothesis import given, settings
from hypothesis import strategies as st

from loop_runner.records import Message
from loop_runner.session.transcript import Transcript
from loop_runner.task.config import History

LONG = "x" * 3000
MODES = st.sampled_from([History(), History("window", 1), History("window", 3), History("compact")])


def spoken(mode, turns, passes=1):
    transcript = Transcript(mode)
    for number in range(1, passes + 1):
        transcript.begin_pass(f"prompt {number}", 4)
        for turn in range(1, turns + 1):
            transcript.add((number, turn), f"reply {number}.{turn}", f"output {number}.{turn} {LONG}")
    return transcript


def common(item, other):
    """How many messages two requests have in common from the beginning."""
    return next(
        (at for at, pair in enumerate(zip(item, other, strict=False)) if pair[0] != pair[1]), len(item)
    )


@settings(deadline=None)
@given(MODES, st.integers(0, 12), st.integers(1, 4), st.booleans())
def test_speakers_take_turns_and_the_prompt_comes_first(mode, turns, passes, ask):
    messages = spoken(mode, turns, passes).messages("and now?" if ask else "")
    assert [message.role for message in messages] == ["user", "assistant"] * (len(messages) // 2) + ["user"]
    assert messages[0].text.startswith("prompt 1")
    assert messages[0].stable_chars == 4
    assert messages[-1].text.endswith("and now?") == ask


def test_a_full_history_only_grows_at_its_end():
    before = spoken(History(), 4).messages()
    assert spoken(History(), 5).messages()[: len(before)] == before


@settings(deadline=None)
@given(st.integers(1, 5), st.integers(0, 30))
def test_a_window_keeps_at_least_n_turns_whole_and_fewer_than_two_n(whole, turns):
    messages = spoken(History("window", whole), turns).messages()
    outputs = [message.text for message in messages[2::2]]
    kept = [LONG in output for output in outputs]
    assert len(outputs) == turns
    assert kept == sorted(kept), "only older ones are cut"
    assert min(turns, whole) <= sum(kept) < 2 * whole
    assert [message.text for message in messages[1::2]] == [f"reply 1.{at}" for at in range(1, turns + 1)]


@settings(deadline=None, max_examples=5)
@given(st.integers(1, 5))
def test_a_window_changes_the_sent_prefix_once_in_n_turns_and_each_message_once(whole):
    requests = [spoken(History("window", whole), turns).messages() for turns in range(25)]
    breaks = [turns for turns in range(1, 25) if common(requests[turns - 1], requests[turns]) < 2 * turns - 1]
    assert all(turns % whole == 0 and turns >= 2 * whole for turns in breaks)
    for at in range(25):
        versions = {request[at] for request in requests if at < len(request)}
        assert len(versions) <= 2


def test_a_cut_output_says_which_turn_it_was_and_keeps_both_ends():
    transcript = spoken(History("window", 1), 1)
    transcript.add((1, 2), "reply", "BEGIN " + LONG + " END")
    transcript.add((1, 3), "reply", "short")
    cut = transcript.messages()[4].text
    assert "Output of turn 2 (only the beginning and the end are kept)" in cut
    assert "BEGIN" in cut
    assert "END" in cut
    assert len(cut) < 900


def test_a_summary_stands_for_the_turns_before_it_and_the_last_output_stays():
    transcript = spoken(History("compact"), 4)
    before = transcript.messages()
    assert transcript.summarise("I found 42.") == (1, 4)
    assert transcript.turns_in_full == 0
    prompt, summary, last = transcript.messages()
    assert prompt == before[0]
    assert summary == Message("assistant", "I found 42.")
    assert "output 1.4" in last.text
    assert "replaces the turns up to turn 4" in last.text
    transcript.add((1, 5), "reply 1.5", "output 1.5")
    assert transcript.messages()[:3] == (prompt, summary, last), "the new prefix stays"
    transcript.summarise("I found 42 twice.")
    assert [message.text for message in transcript.messages()[:2]] == ["prompt 1", "I found 42 twice."]


def test_a_summary_keeps_what_the_pass_was_told_first():
    transcript = spoken(History("compact"), 2, passes=2)
    transcript.summarise("so far")
    assert "prompt 2" in transcript.messages()[2].text


def test_a_second_pass_of_the_same_conversation_is_told_in_one_message():
    messages = spoken(History(), 1, passes=2).messages()
    assert len(messages) == 5
    assert messages[2].text.startswith("output 1.1")
    assert messages[2].text.endswith("\n\nprompt 2")
