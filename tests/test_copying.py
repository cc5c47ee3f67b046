"""Copying by hand, against difflib's longest match, and on texts that were made to be copies."""

import difflib
import json
import math
import random

import pytest

from rlhf_helpers import copying

SOURCE = "On Monday the cook lost a goat near the mill. Nobody saw it. The goat ate her hat."


def test_fragments_and_their_numbers_by_hand():
    """the cook lost | (her) | goat near the mill: stretches of 3, 1 and 4 words in 9"""
    found = copying.measure(SOURCE, "The cook lost her goat near the mill today.")
    assert found.coverage == pytest.approx(8 / 9)
    assert found.density == pytest.approx((9 + 1 + 16) / 9)
    assert (found.longest, found.words) == (4, 9)
    assert found.novel_1 == pytest.approx(1 / 9)  # today
    # lost her, her goat, mill today
    assert found.novel_2 == pytest.approx(3 / 8)
    assert found.copied_sentences == 0
    assert found.copied_from == pytest.approx(6 / 17)  # goat, the seventh of eighteen words


def test_a_copied_sentence_has_its_length_as_density_and_nothing_new():
    found = copying.measure(SOURCE, "Nobody saw it.")
    assert (found.coverage, found.density, found.longest, found.copied_sentences) == (1, 3, 3, 1)
    assert found.novel_1 == found.novel_3 == 0 and math.isnan(found.novel_4)
    half = copying.measure(SOURCE, "Nobody saw it. A cook cried.")
    assert half.copied_sentences == 0.5


def test_a_summary_of_its_own_words_has_copied_nothing():
    found = copying.measure(SOURCE, "Somebody's animal vanished")
    assert (found.coverage, found.density, found.longest, found.novel_2) == (0, 0, 0, 1)
    assert math.isnan(found.copied_from)


def test_the_longest_stretch_is_difflibs():
    rng = random.Random(0)
    for _ in range(200):
        source, summary = (rng.choices("abcd", k=n) for n in (30, 8))
        matcher = difflib.SequenceMatcher(None, source, summary, autojunk=False)
        longest = max(f.length for f in copying.fragments(source, summary))
        match = matcher.find_longest_match()
        # reading from the left may cut into a longer stretch, never make one
        assert longest <= match.size
        firsts = [f.length for f in copying.fragments(source, summary[match.b :])]
        assert firsts[0] == match.size


def test_fragments_stand_in_both_texts_and_do_not_overlap():
    rng = random.Random(1)
    for _ in range(100):
        source, summary = (rng.choices("abcdefgh", k=n) for n in (20, 12))
        end = 0
        for f in copying.fragments(source, summary):
            assert summary[f.summary_at :][: f.length] == source[f.source_at :][: f.length]
            assert f.summary_at >= end
            end = f.summary_at + f.length
        covered = sum(f.length for f in copying.fragments(source, summary))
        assert covered == sum(word in source for word in summary)


def test_means_leave_out_what_cannot_be_measured():
    found = copying.average([SOURCE] * 3, ["Nobody saw it.", "A word.", "The cook lost it."])
    assert found["novel_4"].count == 1 and found["coverage"].count == 3
    lengths = [3, 2, 4]
    assert found["words"].value == 3
    assert found["words"].plus_minus == pytest.approx(1.96 / math.sqrt(len(lengths)))
    with pytest.raises(ValueError, match="2 sources and 1 summaries"):
        copying.average([SOURCE] * 2, ["x"])
    with pytest.raises(ValueError, match="without words"):
        copying.measure(SOURCE, " ... ")


def test_files_of_both_kinds_are_read_alike(tmp_path):
    rows = [{"source": SOURCE, "summary": 'He said, "No".'}, {"source": "a, b\nc", "summary": "d"}]
    lines, table = tmp_path / "x.jsonl", tmp_path / "x.csv"
    lines.write_text("\n".join(json.dumps(row) for row in rows) + "\n")
    table.write_text('source,summary\n"' + SOURCE + '","He said, ""No""."\n"a, b\nc",d\n')
    wanted = [row["source"] for row in rows], [row["summary"] for row in rows]
    assert copying.read(lines) == copying.read(table) == wanted


@pytest.mark.parametrize(
    "text, words",
    [
        ("", "has no records"),
        ('{"source": "a"}\n', "record 1: it has no text called 'summary'"),
        ('{"source": "a", "summary": "b"}\n{"source": 3, "summary": "b"}', "record 2: it has no"),
        ('{"source": "a", "summary": " ! "}', "record 1: its summary has no words"),
        ("{", "line 1 is not JSON"),
        ("[1]", "record 1: it has no text called 'source'"),
    ],
)
def test_faulty_files_are_refused_with_the_place(tmp_path, text, words):
    path = tmp_path / "x.jsonl"
    path.write_text(text)
    with pytest.raises(ValueError, match=words):
        copying.read(path)
