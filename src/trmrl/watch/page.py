"""A page in a browser, on this machine alone, that shows sessions and lets a person step in.

`viser` is the server, and draws robots in space; other worlds are shown as pictures.
"""

import contextlib
import errno
import http
import io
import math
import queue
import re
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from trmrl.types import TrmrlError
from trmrl.watch.drawing import AGENT, SECOND, THINGS, Drawing, caption_of, drawing_of, picture
from trmrl.watch.nearest import MapPanel
from trmrl.watch.session import Session
from trmrl.watch.tasks import Number, describe_numbers, read_numbers, write_numbers

HOST = "127.0.0.1"
MOST_SLIDERS = 12  # numbers of a task that have one each; tasks of more are only drawn
FASTEST = 60  # steps per second
PLOTS_PER_S = 5.0  # each is sent whole
LOOK_BACK = 40  # steps of which attention is shown
PICTURE = (640, 480)


def serve(
    sessions: Sequence[Session], port: int, ready: Callable[[str], None] = lambda url: None
) -> None:
    """Show sessions side by side until an interrupt; `ready` is called with the page's address.

    Port 0 is any free one. Raises `TrmrlError` where `viser` is not installed and where the port
    is taken.
    """
    try:
        import viser
    except ModuleNotFoundError as error:
        raise TrmrlError("a page needs viser: pip install 'trmrl[watch]'") from error
    port = _free_port(port)

    class LocalServer(viser.ViserServer):
        """Viser's, without its way to publish a page on the internet."""

        def request_share_url(self, verbose: bool = True) -> None:
            """Refuse what any browser may ask for."""

    with contextlib.redirect_stdout(io.StringIO()), _guarded():  # it has a banner of its own
        server = LocalServer(host=HOST, port=port, label="trmrl watch", verbose=False)
    try:
        page = Page(server, sessions)
        ready(f"http://{HOST}:{port}")
        page.run()
    finally:
        with contextlib.redirect_stdout(io.StringIO()):
            server.stop()


@contextlib.contextmanager
def _guarded() -> Iterator[None]:
    """Let servers that begin meanwhile refuse other pages (`is_own_page`).

    Viser has no way to ask for that: it is wrapped where it calls the library of its websockets.
    Raises `TrmrlError` at the end if no server came by.
    """
    import websockets.asyncio.server as library

    serve, guarded = library.serve, []

    def serve_own(*args: Any, process_request: Callable[[Any, Any], Any], **options: Any) -> Any:
        def answer(connection: Any, request: Any) -> Any:
            headers = request.headers
            if not is_own_page(headers.get_all("Host"), headers.get_all("Origin")):
                return connection.respond(http.HTTPStatus.FORBIDDEN, "for pages of its own\n")
            return process_request(connection, request)

        guarded.append(True)
        return serve(*args, process_request=answer, **options)

    library.serve = serve_own  # pyright: ignore[reportAttributeAccessIssue]
    try:
        yield
    finally:
        library.serve = serve
    if not guarded:
        raise TrmrlError("this version of viser cannot be kept from answering to other pages")


def is_own_page(hosts: Sequence[str], origins: Sequence[str]) -> bool:
    """Return whether a request with these headers is for this machine, and by no page but its own.

    A page of another site may connect to a server of this machine, and gives its origin away. One
    whose name was made to point to this machine (DNS rebinding) gives that name as the host.
    Programs give no origin. Forwarded ports have the same host and origin, whatever their number.
    """
    if len(hosts) != 1 or re.fullmatch(r"(127\.0\.0\.1|localhost)(:\d+)?", hosts[0]) is None:
        return False
    return list(origins) in ([], [f"http://{hosts[0]}"])


def _free_port(port: int) -> int:
    """Return the port, or any free one for 0; raises `TrmrlError` where it is taken.

    Viser would take the next one without a word.
    """
    try:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((HOST, port))
            return probe.getsockname()[1]
    except (OSError, OverflowError) as error:
        in_use = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
        why = "is in use" if in_use else f"cannot be used ({error})"
        raise TrmrlError(f"port {port} {why}: choose another with --port") from error


class Page:
    """The panel, the scene, and the loop that steps the sessions; `server` is viser's.

    Browsers' events arrive on threads of their own, so they are queued: the loop alone changes a
    session.
    """

    def __init__(self, server: Any, sessions: Sequence[Session]) -> None:
        self.sessions, self._server = list(sessions), server
        self._events: queue.Queue[Callable[[], None]] = queue.Queue()
        self._drawings = [drawing_of(session.envs) for session in sessions]
        self._is_running, self._num_draws, self._plotted = True, 0, 0.0
        self._views = [
            _show(server, number, session, drawing)
            for number, (session, drawing) in enumerate(
                zip(self.sessions, self._drawings, strict=True)
            )
        ]
        self._build_panel()
        self._draw()

    def _build_panel(self) -> None:
        gui, first = self._server.gui, self.sessions[0]
        gui.configure_theme(show_logo=False, show_share_button=False, control_width="medium")
        self._captions = [gui.add_markdown("") for _ in self.sessions]
        self._plot = gui.add_uplot(
            (np.zeros(1), *[np.zeros(1) for _ in self.sessions]),
            ({"label": "step"}, *map(_series, range(len(self.sessions)), self.sessions)),
            scales={"x": {"time": False}},
            title="reward of each step of the trial",
            aspect=1.8,
        )
        self._attention_folder = gui.add_folder("Attention", visible=False)
        self._attention: dict[int, Any] = {}  # plots by the number of the session
        self._maps = [MapPanel(gui, session) for session in self.sessions]
        for panel in self._maps:
            self._on(panel.box, panel.toggle)
        self._pause = gui.add_button("Pause")
        self._on(self._pause, self._toggle)
        self._on(gui.add_button("Step"), self._step_once)
        self._on(gui.add_button("New trial"), self._new_trial)
        self._rate = gui.add_slider(
            "steps per second", 1, FASTEST, 1, round(min(self._drawings[0].rate, FASTEST))
        )
        with gui.add_folder("Hidden task"):
            numbers = describe_numbers(first.envs)
            self._numbers = numbers if len(numbers) <= MOST_SLIDERS else []
            values = read_numbers(first.task)
            self._sliders = [
                _slider(gui, number, value)
                for number, value in zip(self._numbers, values, strict=False)
            ]
            for slider in self._sliders:
                self._on(slider, self._read_sliders)
            self._split = gui.add_dropdown("split", first.spec.splits)
            self._on(gui.add_button("Draw another task"), self._draw_task)

    def _on(self, control: Any, action: Callable[[], None]) -> None:
        """Queue an action when a browser uses a control, not when this page changes it."""

        def arrived(event: Any) -> None:
            if event.client is not None:
                self._events.put(action)

        # Buttons are clicked; what holds a value is updated.
        listen = getattr(control, "on_click", None) or control.on_update
        listen(arrived)

    def run(self) -> None:
        """Step all sessions at the chosen rate, and answer events, until an interrupt."""
        due = time.perf_counter()
        while True:
            wait = due - time.perf_counter() if self._is_running else None
            try:
                self._events.get(timeout=None if wait is None else max(wait, 0.0))()
            except queue.Empty:
                self._step()
                due = max(due + 1.0 / self._rate.value, time.perf_counter() - 0.1)
            else:
                due = max(due, time.perf_counter())

    def _step(self) -> None:
        for session in self.sessions:
            session.step()
        self._draw()

    def _toggle(self) -> None:
        self._is_running = not self._is_running
        self._pause.label = "Pause" if self._is_running else "Go on"

    def _step_once(self) -> None:
        if self._is_running:
            self._toggle()
        self._step()

    def _new_trial(self) -> None:
        for session in self.sessions:
            session.new_trial()
        self._draw()

    def _read_sliders(self) -> None:
        self._change_task([float(slider.value) for slider in self._sliders])

    def _draw_task(self) -> None:
        self._num_draws += 1
        key = jax.random.key(self._num_draws)
        task = self.sessions[0].envs.sample_tasks(self._split.value, 1, key=key)
        numbers = read_numbers(task)
        for slider, value in zip(self._sliders, numbers, strict=False):
            slider.value = min(max(value, slider.min), slider.max)
        self._change_task(numbers)

    def _change_task(self, numbers: list[float]) -> None:
        for session in self.sessions:
            session.change_task(write_numbers(session.task, numbers))
        self._draw()

    def _draw(self) -> None:
        """Bring the page up to date, all at once."""
        with self._server.atomic():
            for view in self._views:
                view()
            for text, session, drawing in zip(
                self._captions, self.sessions, self._drawings, strict=True
            ):
                lines = [f"**{session.name}**", *caption_of(session, drawing)]
                text.content = "  \n".join(lines)
            self._draw_plot()

    def _draw_plot(self) -> None:
        now = time.perf_counter()
        if self._is_running and now < self._plotted + 1.0 / PLOTS_PER_S:
            return
        self._plotted = now
        rewards = [session.rewards for session in self.sessions]
        length = max(map(len, rewards))
        rows = [np.array([*row, *[np.nan] * (length - len(row))], float) for row in rewards]
        if length:
            self._plot.data = (np.arange(1.0, length + 1.0), *rows)
        for number, session in enumerate(self.sessions):
            layers = session.attention(min(session.spec.trial_length, LOOK_BACK))
            if layers and number not in self._attention:
                self._attention_folder.visible = True
                with self._attention_folder:
                    self._attention[number] = _attention_plot(self._server.gui, session, layers)
            if layers:
                weights = [np.asarray(weight, np.float64) for weight in layers.values()]
                self._attention[number].data = (np.arange(len(weights[0]), dtype=float), *weights)
        for panel in self._maps:
            panel.update()


def _series(number: int, session: Session) -> dict[str, Any]:
    return {"label": session.name, "stroke": _css((AGENT, SECOND)[number % 2]), "width": 1.5}


def _attention_plot(gui: Any, session: Session, layers: Iterable[str]) -> Any:
    """Add a plot of what each layer attends to."""
    colors = [_css(color) for color in THINGS]
    lines = [
        {"label": layer, "stroke": colors[number % len(colors)], "width": 1.5}
        for number, layer in enumerate(layers)
    ]
    return gui.add_uplot(
        (np.zeros(1), *[np.zeros(1) for _ in lines]),
        ({"label": "steps ago"}, *lines),
        scales={"x": {"time": False}},
        title=f"attention of {session.name}, by steps ago",
        aspect=2.2,
    )


def _css(color: tuple[int, int, int]) -> str:
    return "rgb({}, {}, {})".format(*color)


def _slider(gui: Any, number: Number, value: float) -> Any:
    """Add a slider whose limits are round numbers around those of all tasks."""
    if number.is_whole or number.high == number.low:
        low, high, step = math.floor(number.low), math.ceil(number.high), 1
        high = max(high, low + 1)
    else:
        unit = 10.0 ** math.floor(math.log10(number.high - number.low)) / 10.0
        low, high = math.floor(number.low / unit), math.ceil(number.high / unit)
        low, high, step = low * unit, high * unit, unit / 10.0
    kind = int if number.is_whole else float
    limits = kind(low), kind(high), kind(step)
    return gui.add_slider(number.name, *limits, kind(min(max(value, low), high)))


def _show(server: Any, number: int, session: Session, drawing: Drawing) -> Callable[[], None]:
    """Put a session into the scene; returns what brings it up to date."""
    if drawing.figure is not None:
        return _show_figure(server, number, session, drawing.figure)
    width, height = 4.0, 4.0 * PICTURE[1] / PICTURE[0]
    draw = lambda: picture(session, drawing, PICTURE, caption=False)
    shown = server.scene.add_image(
        f"/agent{number}",
        draw(),
        width,
        height,
        position=(number * (width + 0.2), 0.0, 0.0),
        cast_shadow=False,
        receive_shadow=False,
    )
    server.scene.set_up_direction("-y")
    server.initial_camera.position = (number * width / 2, 0.0, -4.5)
    server.initial_camera.look_at = (number * width / 2, 0.0, 0.0)

    def update() -> None:
        shown.image = draw()

    return update


def _show_figure(server: Any, number: int, session: Session, figure: Any) -> Callable[[], None]:
    """Put a robot into the scene, always at the same place: the ground moves beneath it."""
    from viser.transforms import SO3

    scene, name, reach = server.scene, f"/agent{number}", figure.reach
    right, back = number * np.array(figure.beside)
    root = scene.add_frame(name, show_axes=False)
    floor = None
    if figure.is_mobile:
        floor = scene.add_grid(f"/floor{number}", width=40.0, height=2.0, cell_size=0.5)
    scene.add_label(f"/name{number}", session.name, position=(right, back, 2.0 * reach))
    middle = np.array([right / 2, back / 2, 0.5 * reach])
    away = np.array([-math.sin(figure.turn), math.cos(figure.turn), -0.4])
    server.initial_camera.position = tuple(middle - 4.0 * reach * away)
    server.initial_camera.look_at = tuple(middle)
    shown: list[Any] = []
    handles: list[Any] = []

    def update() -> None:
        position, rotation = figure.place(session.views[-1])
        if figure.solids is not shown:
            replace_solids(figure.solids)
        x, y, _ = figure.root()
        turn = SO3.from_matrix(rotation).wxyz
        for handle, at, wxyz in zip(handles, position, turn, strict=True):
            handle.position, handle.wxyz = at, wxyz
        root.position = (right - x, back - y, 0.0)
        if floor is not None:
            floor.position = (right - x % 1.0, back, 0.0)

    def replace_solids(solids: list[Any]) -> None:
        nonlocal shown
        for handle in handles:
            handle.remove()
        shown = solids
        handles[:] = [
            scene.add_mesh_simple(f"{name}/{i}", solid.vertices, solid.faces, color=solid.color)
            for i, solid in enumerate(solids)
        ]

    return update
