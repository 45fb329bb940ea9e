"""Lists of jobs: what is read, done, skipped and told."""

import pytest

from vasa_jax.doors.jobs import do_jobs, read_jobs
from vasa_jax.errors import UserError


@pytest.fixture
def listed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def write(text, encoding="utf-8"):
        (tmp_path / "jobs.csv").write_text(text, encoding=encoding)
        return "jobs.csv"

    return write


def test_rows_are_flags(listed):
    path = listed('image,--audio,out,guidance-audio\na.png,"b, c.wav",1.mp4,\n\n d.png ,,2.mp4,3\n', "utf-8-sig")
    assert read_jobs(path) == [
        {"image": "a.png", "audio": "b, c.wav", "out": "1.mp4"},
        {"image": "d.png", "out": "2.mp4", "guidance_audio": "3"},
    ]


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "holds no jobs"),
        ("image,out\n", "holds no jobs"),
        ("image,audio\na,b\n", "there is no column out"),
        ("image,out,jobs\na,b,c\n", "the column 'jobs' cannot be used"),
        ("image,out,image\na,b,c\n", "the column 'image' cannot be used"),
        ("image,out\na,b,c\n", "job 1 of jobs.csv has 3 fields, its first row 2"),
        ("image,out\na,x\0.mp4\n", "jobs.csv is not a table of jobs .*: it holds zero bytes"),
        ("image,out\na,x.mp4\nb,./x.mp4\n", "jobs 1 and 2 of jobs.csv both write ./x.mp4"),
    ],
)
def test_lists_that_are_refused(listed, text, message):
    with pytest.raises(UserError, match=message):
        read_jobs(listed(text))


def test_a_list_that_is_no_table(listed, tmp_path):
    with pytest.raises(UserError, match=r"none.csv"):
        read_jobs("none.csv")
    (tmp_path / "jobs.csv").write_bytes(b"\xff\xfe\x00\x80" * 10)
    with pytest.raises(UserError, match="is not a table of jobs"):
        read_jobs("jobs.csv")


def test_all_jobs_but_the_bad_ones_are_done_and_a_second_run_skips_what_is_there(listed, tmp_path):
    path, asked = listed("out,image,square\n1.mp4,a,\n2.mp4,bad,yes\n3.mp4,c,no\n"), []

    def perform(arguments):
        asked.append(arguments)
        if "--image=bad" in arguments:
            raise UserError("bad: no such image file")
        (tmp_path / arguments[2].removeprefix("--out=")).touch()
        return "done"

    def run():
        lines = []
        with pytest.raises(UserError, match="1 of 3 jobs of jobs.csv failed; mend their rows and run it again"):
            for line in do_jobs(path, ["--seed", "3", "--jobs", path], perform):
                lines.append(line)
        return lines

    lines = run()
    assert asked == [
        ["--seed", "3", "--out=1.mp4", "--image=a"],
        ["--seed", "3", "--out=2.mp4", "--image=bad", "--square"],
        ["--seed", "3", "--out=3.mp4", "--image=c", "--no-square"],
    ]
    assert lines[:2] == ["done", "done"] and lines[2:] == [
        "   1  1.mp4  done",
        "   2  2.mp4  failed: bad: no such image file",
        "   3  3.mp4  done",
    ]
    asked.clear()
    assert [line.split(maxsplit=2)[2] for line in run()] == [
        "skipped: it is there",
        "failed: bad: no such image file",
        "skipped: it is there",
    ]
    assert len(asked) == 1
