"""The study's page in headless Chromium: whole sessions on a desktop and on a phone."""

import shutil

import pytest
from comparison import write_comparison
from study_server import serving

import depthstyle as ds

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import WebDriverWait  # noqa: E402

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (BROWSER and DRIVER), reason="needs Debian's chromium and chromium-driver"
)

PHONE = {"deviceMetrics": {"width": 390, "height": 844, "pixelRatio": 2, "touch": True}}
PAIRS = 4


class Page:
    """What a respondent sees and does."""

    def __init__(self, phone):
        options = webdriver.ChromeOptions()
        options.binary_location = BROWSER
        # Root in a container has no sandbox and a small /dev/shm.
        for flag in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "disable-gpu"):
            options.add_argument(f"--{flag}")
        options.add_argument("--window-size=1280,860")
        if phone:
            options.add_experimental_option("mobileEmulation", PHONE)
        self.driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))

    def open(self, link):
        self.driver.get(link)

    def wait(self, condition):
        return WebDriverWait(self.driver, 20, poll_frequency=0.02).until(lambda _: condition())

    def part(self, name):
        return self.driver.find_element(By.ID, name)

    def begin(self, link):
        self.open(link)
        self.wait(self.part("begin").is_displayed)
        assert f"{PAIRS} pairs" in self.part("welcome").text
        self.part("begin").click()

    def pair(self, position):
        """Wait until a pair is shown."""
        self.wait(
            lambda: (
                self.part("progress").text == f"{position} of {PAIRS}"
                and not self.driver.find_elements(By.CLASS_NAME, "waiting")
            )
        )

    def end(self):
        self.wait(self.part("thanks").is_displayed)
        assert not self.part("choice").is_displayed()

    def press(self, key):
        webdriver.ActionChains(self.driver).send_keys(key).perform()

    def script(self, text):
        return self.driver.execute_script(f"return {text}")

    def errors(self):
        return [entry["message"] for entry in self.driver.get_log("browser")]


@pytest.fixture(scope="module", params=["desktop", "phone"])
def page(request):
    page = Page(phone=request.param == "phone")
    page.is_phone = request.param == "phone"
    yield page
    page.driver.quit()


@pytest.fixture(scope="module")
def desktop():
    page = Page(phone=False)
    yield page
    page.driver.quit()


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    return write_comparison(tmp_path_factory.mktemp("pictures"), images=2, size=(480, 640))


@pytest.fixture
def study(pairs, tmp_path):
    return ds.study.build(
        pairs, tmp_path / "study", respondents=2, pairs_per_respondent=PAIRS, progress=False
    )


def chosen(study):
    return [(vote.position, vote.side) for vote in study.votes()]


def test_a_whole_session(page, study):
    with serving(study.folder) as server:
        page.begin(server.links[0])
        sides = ["left", "right", "right", "left"]
        for position, side in enumerate(sides, start=1):
            page.pair(position)
            assert all(
                page.script(f"document.querySelector('#{name} img, img#{name}').naturalWidth > 0")
                for name in ("content", "left", "right")
            )
            page.part(side).click()
        page.end()
    assert chosen(study) == list(enumerate(sides, start=1))
    assert page.errors() == []


def test_everything_is_in_view_and_large(page, study):
    with serving(study.folder) as server:
        page.begin(server.links[0])
        page.pair(1)
        width, height = page.script("[innerWidth, innerHeight]")
        assert (width == 390) == page.is_phone
        assert page.script("document.documentElement.scrollWidth") <= width
        assert page.script("document.documentElement.scrollHeight") <= height
        content, left, right = (
            page.script(f"document.querySelector('{at}').getBoundingClientRect().toJSON()")
            for at in ("#content", "#left img", "#right img")
        )
    for box in (content, left, right):
        assert box["left"] >= 0
        assert box["right"] <= width
        assert box["bottom"] <= height
        assert box["width"] / box["height"] == pytest.approx(640 / 480, rel=0.01)
    assert left["width"] == right["width"]
    assert content["width"] < left["width"]
    if page.is_phone:
        assert left["bottom"] <= right["top"]
        assert left["width"] > 0.8 * width
    else:
        assert left["top"] == right["top"]
        assert left["right"] <= right["left"]
        assert left["width"] > 0.4 * width


def test_keyboard_only(desktop, study):
    with serving(study.folder) as server:
        desktop.open(server.links[0])
        desktop.wait(desktop.part("begin").is_displayed)
        desktop.press(Keys.TAB)
        desktop.press(Keys.ENTER)
        for position, keys in enumerate(
            (
                [Keys.ARROW_RIGHT],
                [Keys.ARROW_LEFT],
                [Keys.TAB, Keys.TAB, Keys.ENTER],
                ["x", Keys.UP],
            ),
            start=1,
        ):
            desktop.pair(position)
            for key in keys:
                desktop.press(key)
        desktop.end()
    assert chosen(study) == [(1, "right"), (2, "left"), (3, "right"), (4, "left")]


def test_reload_and_another_visit_go_on_where_it_stopped(desktop, study):
    with serving(study.folder) as server:
        desktop.begin(server.links[0])
        desktop.pair(1)
        desktop.part("left").click()
        desktop.pair(2)
        desktop.driver.refresh()
        desktop.pair(2)
        desktop.part("right").click()
        desktop.pair(3)
        desktop.open("about:blank")
        desktop.open(server.links[0])
        desktop.pair(3)
    assert chosen(study) == [(1, "left"), (2, "right")]


def test_killed_server_between_votes(desktop, study):
    """The respondent votes while the server is dead; the vote arrives when it is back."""
    with serving(study.folder) as server:
        desktop.begin(server.links[0])
        for position in (1, 2):
            desktop.pair(position)
            server.kill()
            desktop.part("left").click()
            desktop.wait(desktop.part("notice").is_displayed)
            assert "No connection" in desktop.part("notice").text
            assert len(chosen(study)) == position - 1
            server.start()
            desktop.wait(lambda count=position: len(chosen(study)) == count)
        desktop.pair(3)
        assert not desktop.part("notice").is_displayed()
    assert chosen(study) == [(1, "left"), (2, "left")]


def test_the_next_pair_is_loaded_ahead(desktop, study):
    with serving(study.folder) as server:
        desktop.begin(server.links[0])
        desktop.pair(1)
        fetched = "performance.getEntriesByType('resource').map(e => e.name)"
        for name in ("content", "left", "right"):
            wanted = f"{server.links[0]}/picture/2/{name}"
            desktop.wait(lambda wanted=wanted: wanted in desktop.script(fetched))
        assert not any("/picture/3/" in name for name in desktop.script(fetched))


def test_a_second_tab_cannot_vote_again(desktop, study):
    with serving(study.folder) as server:
        desktop.begin(server.links[0])
        desktop.pair(1)
        study.vote(study.tokens()[0], 1, "right")
        desktop.part("left").click()
        desktop.pair(2)
    assert chosen(study) == [(1, "right")]


def test_hasty_clicks_count_once(desktop, study):
    with serving(study.folder) as server:
        desktop.begin(server.links[0])
        desktop.pair(1)
        desktop.script("[1, 2, 3, 4, 5].forEach(() => document.getElementById('left').click())")
        desktop.pair(2)
    assert chosen(study) == [(1, "left")]


def test_a_wrong_link_says_so(desktop, study):
    with serving(study.folder) as server:
        desktop.open(f"{server.links[0]}x")
        assert "check that you copied all of it" in desktop.driver.page_source
