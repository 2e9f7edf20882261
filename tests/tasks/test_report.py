"""The report: one page that holds everything, shows every speaker, and nobody without a basis."""

import html.parser
import json
import re
import shutil
import subprocess
import xml.etree.ElementTree
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import evaluated_project
import numpy as np
import pytest
import yaml
from dvc.repo import Repo

from tasks import heat_map, report, tables
from tasks.charts import line_chart
from tasks.measured import Measured
from tasks.media import write_video
from tasks.places import Keys, Places
from tasks.stage import execute

VOID = {"meta", "img", "br", "link", "input", "line", "polyline", "image", "use"}


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
        self.links += [values["href"] or ""] if "href" in values and tag != "image" else []
        self.sources += [values[name] for name in ("src", "poster") if values.get(name)]
        self.sources += [values["href"] or ""] if tag == "image" else []

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in VOID
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("style", "script"):
            self.text += data


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Places:
    root = tmp_path_factory.mktemp("project")
    (root / "params.yaml").write_text("speakers: [ada, bob, cy, dora]\nextractors: [logmel]\ndrives: [de_f]\n")
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
        evaluated_project.write_frames(root, speaker)
        (base / "ingest").mkdir()
        cv2.imwrite(str(base / "ingest/strip.jpg"), np.full((40, 60, 3), 90, np.uint8))
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


def test_heads_of_two_methods_have_sections_of_their_own_and_stand_beside_each_other(tmp_path: Path) -> None:
    params = "{speakers: [ada], gaussian_talkers: [%s], extractors: [logmel], drives: [%s]}"
    (tmp_path / "params.yaml").write_text(params % ("ada", "de_f, zh_f"))
    record = tmp_path / "data/speakers/ada.yaml"
    record.parent.mkdir(parents=True)
    record.write_text("name: Ada\nbasis: synthetic\nsources: [a.mp4]\n")

    def section(*videos: str) -> report.Section:
        for name in videos:
            path = tmp_path / "data/preview/ada" / name / "result.mp4"
            path.parent.mkdir(parents=True)
            write_video(path, moving(), 25.0, np.zeros(16000, np.int16), 16000, "", {})
        return report.section_of(Places(tmp_path), "ada", [], [], [])

    one = section("render/logmel", "render_drive/logmel/de_f")
    assert [head.name for head in one.heads] == ["ada / talking_gaussian / logmel"]
    assert one.beside == []
    both = section("gt_render/logmel", "gt_render_drive/logmel/de_f", "gt_render_drive/logmel/zh_f")
    names = ["ada / talking_gaussian / logmel", "ada / gaussian_talker / logmel"]
    assert [head.name for head in both.heads] == [video.title for video in both.beside] == names
    assert [[drive.title for drive in head.drives] for head in both.heads] == [["de_f"], ["de_f", "zh_f"]]
    ids = [video.id for head in both.heads for video in (*head.videos, *head.drives)]
    assert len(set(ids)) == len(ids) == 5
    shown = report.render([both], [], heat_map.Matrix("none"), {})
    assert shown.index("All heads, the same test frames") < shown.index(names[0]) < shown.index(names[1])
    # What params.yaml lists no longer is shown no longer, whatever lies there.
    (tmp_path / "params.yaml").write_text(params % ("ada", "zh_f"))
    assert [[drive.title for drive in head.drives] for head in section().heads] == [[], ["zh_f"]]
    (tmp_path / "params.yaml").write_text(params % ("", "zh_f"))
    assert [head.name for head in section().heads] == names[:1]


def test_nothing_comes_from_outside(page: str, outline: Outline) -> None:
    assert outline.sources
    assert all(source.startswith("data:") for source in outline.sources)
    assert not re.search(r"https?://|@import|url\(", re.sub(r"base64,[A-Za-z0-9+/=]+", "", page))
    assert page.count("<script>") == page.count("<script") == 1
    assert "default-src 'none'" in page  # a browser asks nobody for anything either


def test_every_part_is_a_tab_and_stands_on_the_page_without_a_script(page: str) -> None:
    for name, title in report.PARTS:
        assert f'<a href="#tab-{name}">{title}</a>' in page
        assert f'<div class="panel" id="tab-{name}">' in page
    style = page[page.index("<style>") : page.index("</style>")]
    hidden = [line for line in style.splitlines() if "display: none" in line]
    assert all(".tabbed" in line or ".scripted" in line for line in hidden)  # classes that only the script gives
    before = page[: page.index("<script>")]
    assert "tabbed" not in before[before.index("<body>") :]


def part(page: str, name: str) -> str:
    start = page.index(f'id="tab-{name}"')
    end = page.find('<div class="panel"', start)
    return page[start : end if end > 0 else page.index("</main>")]


def test_curves_stand_under_the_video_that_they_belong_to(page: str) -> None:
    curves = part(page, "curves")
    assert 'id="ada-logmel-talking_gaussian-curves" data-step="0.04"' in curves
    assert 'data-of="ada-logmel-talking_gaussian-video"' in curves
    assert '<video id="ada-logmel-talking_gaussian-video"' in part(page, "overview")
    assert "data:video" not in curves  # every video is on the page once
    for words in ("lip gap over eye distance (r_open ↑, 0.625 over all)", "PSNR mouth [dB] ↑, 27.50 over all"):
        assert curves.count(f">{words}</h4>") == 1
    assert "amplitude" not in curves  # the same curve as r_open's
    assert "PSNR frame" not in curves  # ranks frames as the head's does
    assert "0 is frame 70 of the clip" in curves
    assert 'data-of="ada-logmel-de_f-talking_gaussian-video"' in curves
    assert "each over its own range (r_sound ↑, 0.250 over all)" in curves
    assert "cy" not in re.findall(r'id="(\w+)-', curves)


def test_worst_and_failed_frames_lead_to_their_instant(page: str) -> None:
    worst, failed = part(page, "worst"), part(page, "failures")
    assert 'data-seek="0.220">frame 75, 0.2 s</a>: 21.5 dB' in worst
    assert 'viewBox="0 18 30 10"' in worst
    assert "specks: 2 frames, the worst 1" in failed
    assert "30 against 4" in failed
    assert re.search(r'>n/a</td><td class="absent">n/a', failed)  # of what nobody could tell
    assert "Bars missed" not in failed


def test_without_a_matrix_the_page_says_why(page: str, places: Places, tmp_path: Path) -> None:
    assert "No matrix: there is no data/matrix/matrix.json" in part(page, "matrix")
    (tmp_path / "matrix.json").write_text('{"cells": [], "metrics": {}}')
    assert "add-drive" in heat_map.read_matrix(tmp_path).why


def test_numbers_and_curves_lie_beside_the_page(places: Places, page: str) -> None:
    base = places.root / "data/report"
    numbers = json.loads((base / "metrics/ada/talking_gaussian/logmel/own_sound.json").read_text())
    assert numbers["PSNR"] == {"head": 30.125, "mouth": 27.5}  # of the result, not of its controls
    assert json.loads((base / "metrics/ada/talking_gaussian/logmel/de_f.json").read_text()) == {
        "r_sound": {"face": 0.25}
    }
    names = {path.name for path in (base / "plots/ada/talking_gaussian/logmel").iterdir()}
    assert names == {"training_face.svg", "PSNR_mouth.svg", "r_open_face.svg"}
    assert not (base / "plots/cy").exists()
    for path in (base / "plots/ada/talking_gaussian/logmel").iterdir():
        root = xml.etree.ElementTree.parse(path).getroot()
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert any("stroke" in (style.text or "") for style in root.iter("{http://www.w3.org/2000/svg}style"))


def test_every_speaker_is_there_with_the_basis(outline: Outline) -> None:
    assert {"ada", "bob", "cy", "dora"} <= set(outline.ids)
    for words in ("Ada <b>", "synthetic", "research - private evaluation only", "a public archive", "2999-06-01"):
        assert words in outline.text


def test_a_drive_that_does_not_say_its_language_is_told_without_one(tmp_path: Path) -> None:
    places = Places(tmp_path)
    places.drive_record("hum").parent.mkdir(parents=True)
    places.drive_record("hum").write_text("name: Humming\nbasis: synthetic\nlanguage: ''\nsource: speech.wav\n")
    assert report.title_of(places, "hum") == "Humming (unstated, synthetic)"


def test_without_a_valid_consent_nobody_is_shown(page: str, outline: Outline) -> None:
    assert "expired on 2020-06-01" in outline.text
    section = page[page.index('<section id="cy">') :]
    section = section[: section.index("</section>")]
    assert "data:" not in section
    assert sum("video/mp4" in source for source in outline.sources) == 2  # Ada's own, none of Cy's


def test_videos_numbers_curves_strips_and_failures_are_on_it(page: str, outline: Outline) -> None:
    for words in ("Truth, result, difference", "German voice (de, female, synthetic)", "bars reached: 1 of 1"):
        assert words in outline.text
    for words in (
        "PSNR mouth [dB] ↑, 27.50 over all",
        "face: loss terms",
        "nothing cut off at chin",
        "lip distance",
        "n/a: the lids <never> move",
    ):
        assert words in outline.text
    assert "ada: only 4 s" in outline.text  # what is wrong with the footage
    assert "cy: only 4 s" not in outline.text
    assert sum("image/jpeg" in source for source in outline.sources) == 5  # two posters, a strip, two galleries


def test_the_same_files_give_the_same_page(places: Places, page: str) -> None:
    again = (execute(report.STAGE, report.run, Keys(), places) / "report.html").read_text(encoding="utf-8")
    assert again == page


def test_dvc_shows_and_compares_numbers_and_curves_of_two_states(places: Places, page: str, tmp_path: Path) -> None:
    whole = yaml.safe_load((evaluated_project.ROOT / "dvc.yaml").read_text())
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump({name: whole[name] for name in ("metrics", "plots")}))
    shutil.copytree(places.root / "data/report", tmp_path / "data/report")
    author = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    for command in (["init", "-q"], ["add", "-A"], [*author, "commit", "-qm", "one"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    path = tmp_path / "data/report/metrics/ada/talking_gaussian/logmel/own_sound.json"
    path.write_text(path.read_text().replace("30.125", "31.125"))
    with Repo.init(str(tmp_path)) as repo:
        shown = repo.metrics.show()[""]["data"]
        assert shown[str(path.relative_to(tmp_path))]["data"]["PSNR"]["head"] == 31.125
        ((name, change),) = repo.metrics.diff()["diff"].items()
        assert name == str(path.relative_to(tmp_path))
        assert change["PSNR.head"] == {"old": 30.125, "new": 31.125, "diff": 1.0}
        plots = repo.plots.show()["workspace"]["sources"]["data"]
    assert {Path(name).name for name in plots} == {"training_face.svg", "PSNR_mouth.svg", "r_open_face.svg"}


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


def drawn(lines: dict[str, list[float | None]], x: list[float], **how: Any) -> str:
    chart = line_chart(lines, x, "step", **how)
    assert chart is not None
    return chart.html


def heights(chart: str) -> list[float]:
    points = re.search(r'points="([^"]+)"', chart)
    assert points is not None
    return [float(pair.split(",")[1]) for pair in points.group(1).split()]


def test_a_chart_draws_each_line_and_breaks_it_at_gaps() -> None:
    chart = drawn({"a": [1.0, 2.0, None, 3.0, 4.0], "b": [0.5] * 5}, [0, 1, 2, 3, 4])
    assert chart.count("<polyline") == 3
    assert chart.count('class="key"') == 2
    assert line_chart({"a": [None, None]}, [0, 1], "step") is None


def test_a_higher_value_stands_higher() -> None:
    low, high = heights(drawn({"a": [1.0, 100.0]}, [0, 1], logarithmic=True))
    assert high < low


def test_the_scales_of_a_chart_give_its_values_back() -> None:
    values: list[float | None] = [2.0, 7.0, 3.5]
    chart = drawn({"a": values}, [0.0, 0.04, 0.08])
    x, y = (re.search(rf'data-{name}="([^"]+)"', chart) for name in "xy")
    assert x is not None
    assert y is not None
    low, high, bottom, top = map(float, y.group(1).split())
    read = [low + (at - bottom) / (top - bottom) * (high - low) for at in heights(chart)]
    np.testing.assert_allclose(read, [2.0, 7.0, 3.5], atol=0.01)
    assert x.group(1).split()[:2] == ["0", "0.08"]


def test_a_long_line_keeps_its_spikes() -> None:
    values: list[float | None] = [0.0] * 20000
    values[12345] = 1.0
    chart = drawn({"a": values}, list(range(20000)))
    assert len(heights(chart)) <= 1510
    assert min(heights(chart)) < max(heights(chart)) - 100


@pytest.mark.parametrize("seen", [True, False])
def test_a_drive_says_whose_lips_were_followed_where_somebody_was_seen(seen: bool) -> None:
    def row(metric: str, variant: str, value: float) -> dict[str, Any]:
        return {"metric": metric, "region": "face", "variant": variant, "value": value, "unit": "1"}

    rows = [row("r_sound", "full", 0.2), row("r_sound", "wrong_sound", 0.1), row("opening", "full", 0.75)]
    talker = [row("r_talker", "full", 0.5), row("r_talker", "wrong_sound", -0.125)]
    words = report.words_of(Measured({"noise": ["r_talker"]}, rows + talker * seen))
    assert words.endswith("Lips against loudness: r 0.200 (wrong sound 0.100); opening 0.750 of the speaker's own.")
    told = "Lips against those of whoever says it: r 0.500, within noise (another moment -0.125)."
    assert words.startswith(told) == seen


def test_the_words_under_a_drive_agree_with_the_matrix(places: Places, tmp_path: Path) -> None:
    root = tmp_path / "driven"
    shutil.copytree(places.root, root)
    (root / "data/matrix").mkdir()
    head = {"speaker": "ada", "method": "talking_gaussian", "extractor": "logmel", "drive": "de_f"}
    cell = {**head, "groups": [], "values": {"r_sound": {"value": 0.3, "noise": True}}}
    content = {"metrics": {}, "heads": [], "drives": [], "cells": [cell], "groups": []}
    (root / "data/matrix/matrix.json").write_text(json.dumps(content))
    page = (execute(report.STAGE, report.run, Keys(), Places(root)) / "report.html").read_text(encoding="utf-8")
    assert re.search(r"Lips against loudness: r [\d.na/]+, within noise", page)


def test_a_name_leads_to_its_definition(page: str) -> None:
    assert '<dt id="def-LMD">LMD</dt><dd>lip distance</dd>' in page
    assert '<a href="#def-LMD">LMD [px] ↓</a>' in page
    for variant in ("static", "wrong_audio", "motion_off"):
        assert f'<dt id="def-{variant}">' in page
    bar = next(line for line in page.splitlines() if "lips | follow" in line)
    assert "r_open face" in bar


def test_few_heads_stand_beside_each_other_under_their_metrics(page: str) -> None:
    numbers = page.split('id="tab-numbers"')[1].split('class="panel"')[0]
    assert '<th title=""></th><th title="">ada' in numbers
    assert numbers.index("PSNR head") < numbers.index("LMD [px]")
    assert numbers.count("<th") < 40
