"""The report: one page that holds everything, shows every speaker, and nobody without a basis."""

import html.parser
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import cv2
import evaluated_project
import numpy as np
import pytest

from tasks import report, tables
from tasks.charts import line_chart
from tasks.media import write_video
from tasks.places import Keys, Places
from tasks.stage import execute

VOID = {"meta", "img", "br", "link", "input", "line", "polyline"}


class Outline(html.parser.HTMLParser):
    """Checks that tags close in order and collects identities, links and sources."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.sources: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        values = dict(attrs)
        self.ids += [values["id"]] if values.get("id") else []
        self.links += [values["href"]] if values.get("href") else []
        self.sources += [values[name] for name in ("src", "poster") if values.get(name)]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in VOID

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] != "style":
            self.text += data


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Places:
    root = tmp_path_factory.mktemp("project")
    (root / "params.yaml").write_text("speakers: [ada, bob, cy, dora]\n")
    people = root / "data/speakers"
    people.mkdir(parents=True)
    (people / "ada.yaml").write_text("name: Ada <b>\nbasis: synthetic\nsources: [a.mp4]\n")
    (people / "bob.yaml").write_text(
        "name: Bob\nbasis: research\nsources: [a.mp4]\nresearch: {source: a public archive, reason: comparison}\n"
    )
    consent = "{who: Cy, scope: demos, date: 2020-01-01, expiry: %s, evidence_sha256: " + "a" * 64 + "}"
    (people / "cy.yaml").write_text(f"name: Cy\nbasis: consent\nsources: [a.mp4]\nconsent: {consent % '2020-06-01'}\n")
    (people / "dora.yaml").write_text(
        f"name: Dora\nbasis: consent\nsources: [a.mp4]\nconsent: {consent % '2999-06-01'}\n"
    )
    (root / "data/drives").mkdir()
    (root / "data/drives/de_f.yaml").write_text(
        "name: German voice\nbasis: synthetic\nlanguage: de\ngender: female\nsource: speech.wav\n"
    )
    for speaker in ("ada", "cy"):
        evaluated_project.write_metrics(root, speaker)
        base = root / "data/preview" / speaker
        for path in (base / "render/logmel/side_by_side.mp4", base / "render_drive/logmel/de_f/result.mp4"):
            path.parent.mkdir(parents=True)
            write_video(path, moving(), 25.0, np.zeros(16000, np.int16), 16000, "", {})
        for path in (base / "ingest/strip.jpg", base / "evaluate/logmel/worst_LMD_face.jpg"):
            path.parent.mkdir(parents=True)
            cv2.imwrite(str(path), np.full((40, 60, 3), 90, np.uint8))
    execute(tables.STAGE, tables.run, Keys(), Places(root))
    return Places(root)


def moving() -> Iterator[np.ndarray]:
    for t in range(25):
        yield np.full((48, 64, 3), 5 * t, np.uint8)


@pytest.fixture(scope="module")
def page(places: Places) -> str:
    return (execute(report.STAGE, report.run, Keys(), places) / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def outline(page: str) -> Outline:
    outline = Outline()
    outline.feed(page)
    outline.close()
    return outline


def test_the_page_parses_and_its_links_lead_somewhere(outline: Outline) -> None:
    assert outline.open == []
    assert len(outline.ids) == len(set(outline.ids))
    assert {link.removeprefix("#") for link in outline.links} <= set(outline.ids)


def test_nothing_comes_from_outside(page: str, outline: Outline) -> None:
    assert outline.sources
    assert all(source.startswith("data:") for source in outline.sources)
    assert not re.search(r"https?://|@import|url\(", re.sub(r"base64,[A-Za-z0-9+/=]+", "", page))
    assert "<script" not in page


def test_every_speaker_is_there_with_the_basis(outline: Outline) -> None:
    assert {"ada", "bob", "cy", "dora"} <= set(outline.ids)
    for words in ("Ada <b>", "synthetic", "research - private evaluation only", "a public archive", "2999-06-01"):
        assert words in outline.text


def test_without_a_valid_consent_nobody_is_shown(page: str, outline: Outline) -> None:
    assert "expired on 2020-06-01" in outline.text
    section = page[page.index('<section id="cy">') :]
    section = section[: section.index("</section>")]
    assert "data:" not in section
    assert sum("video/mp4" in source for source in outline.sources) == 2  # Ada's own, none of Cy's


def test_videos_numbers_curves_strips_and_failures_are_on_it(page: str, outline: Outline) -> None:
    for words in ("Truth, result, difference", "German voice (de, female, synthetic)", "1 of 1 bars reached"):
        assert words in outline.text
    for words in (
        "Lip shape, worst by LMD",
        "face: loss terms",
        "nothing cut off at chin",
        "lip distance",
        "identity similarity",
    ):
        assert words in outline.text
    assert "ada: only 4 s" in outline.text  # what is wrong with the footage
    assert "cy: only 4 s" not in outline.text
    assert page.count("<svg") == 2
    assert sum("image/jpeg" in source for source in outline.sources) == 4  # two posters, a strip, a failure


def test_the_same_files_give_the_same_page(places: Places, page: str) -> None:
    again = (execute(report.STAGE, report.run, Keys(), places) / "report.html").read_text(encoding="utf-8")
    assert again == page


def test_a_video_that_is_too_large_is_named(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "LARGEST_VIDEO", 100)
    path = places.root / "data/preview/ada/render/logmel/side_by_side.mp4"
    picture = report.picture_of(path, "Result")
    assert picture is not None
    assert picture.source == ""
    assert "side_by_side.mp4" in picture.words


def test_a_speaker_without_results_says_so(places: Places, tmp_path: Path) -> None:
    shutil.copytree(places.root / "data/speakers", tmp_path / "data/speakers")
    (tmp_path / "params.yaml").write_text("speakers: [ada]\n")
    execute(tables.STAGE, tables.run, Keys(), Places(tmp_path))
    page = (execute(report.STAGE, report.run, Keys(), Places(tmp_path)) / "report.html").read_text(encoding="utf-8")
    assert "No head of this speaker has been rendered yet." in page


def test_the_page_says_how_fit_the_footage_is_and_what_each_unit_is_worth(places: Places, tmp_path: Path) -> None:
    shutil.copytree(places.root / "data/speakers", tmp_path / "data/speakers")
    (tmp_path / "params.yaml").write_text("speakers: [ada]\n")
    here = Places(tmp_path)
    finding = {"level": "warning", "what": "dark <room>", "fix": "use more light"}
    units = {"AU06": {"level": "absent", "source": "score cheekSquint", "moves": False}}
    units["AU45"] = {"level": "solid", "source": "fitted eyeBlink", "moves": True}
    quality = {
        "rows": [],
        "verdicts": [],
        "fitness": {"verdict": "fit with warnings", "findings": [finding], "figures": [["blinks", "12 a minute"]]},
        "action_units": {"source": "builtin", "units": units},
    }
    folder = here.metrics("quality", Keys("ada"))
    folder.mkdir(parents=True)
    (folder / "quality.json").write_text(json.dumps(quality))
    execute(tables.STAGE, tables.run, Keys(), here)
    page = (execute(report.STAGE, report.run, Keys(), here) / "report.html").read_text(encoding="utf-8")
    outline = Outline()
    outline.feed(page)
    for words in (
        "fit with warnings",
        "dark <room>",
        "use more light",
        "12 a minute",
        "cheek raiser",
        "fitted eyeBlink",
    ):
        assert words in outline.text
    assert "bob" not in outline.ids  # has a record, but params.yaml does not list him


def test_a_chart_draws_each_line_and_breaks_it_at_gaps() -> None:
    chart = line_chart({"a": [1.0, 2.0, None, 3.0, 4.0], "b": [0.5] * 5}, [0, 1, 2, 3, 4], "step")
    assert chart.count("<polyline") == 3
    assert chart.count('class="key"') == 2
    assert "no curve" in line_chart({"a": [None, None]}, [0, 1], "step")


def test_a_higher_value_stands_higher() -> None:
    chart = line_chart({"a": [1.0, 100.0]}, [0, 1], "step", logarithmic=True)
    points = re.search(r'points="([^"]+)"', chart)
    assert points is not None
    (x0, y0), (x1, y1) = (map(float, pair.split(",")) for pair in points.group(1).split())
    assert x1 > x0
    assert y1 < y0
