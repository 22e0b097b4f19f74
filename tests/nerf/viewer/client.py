"""A browser's end of viser's connection without a browser: it says where its camera is, and gets pictures."""

import io
import threading
from collections.abc import Callable
from typing import Any, Self

import msgspec
import numpy as np
import viser
import zstandard
from PIL import Image
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.waiting import wait_for

PATIENCE = 60.0  # seconds, on a machine that others use as well


class Client:
    """A connection to a viewer's server.

    Attributes:
      pictures: uint8 [h, w, 3], of the window so far.
      controls: label -> uuid of the page's controls.
      nodes: names of what is in the scene.
      sets: what the server has set of this browser's camera: by kind, the newest message.
    """

    def __init__(self, url: str):
        self.socket = connect(
            url.replace("http", "ws"), subprotocols=[f"viser-v{viser.__version__}"], max_size=2**27, compression=None
        )
        self.pictures, self.controls, self.nodes, self.sets, self.texts = [], {}, set(), {}, {}
        self.thread = threading.Thread(target=self._receive, daemon=True)
        self.thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error) -> None:
        self.socket.close()

    def look(self, position: Any = (2.0, 0.0, 0.5), turn: float = 0.0, size: tuple[int, int] = (64, 48)) -> None:
        """Says where the window's camera is: it looks at the origin, beside it by `turn`."""
        z = -np.asarray(position, float) / np.linalg.norm(position)
        x = np.cross(z, [0, 0, 1.0])
        x /= np.linalg.norm(x)
        pose = np.stack([x, np.cross(z, x), z], 1)
        pose = pose @ viser.transforms.SO3.from_y_radians(turn).as_matrix()
        self.send(
            "ViewerCameraMessage",
            wxyz=viser.transforms.SO3.from_matrix(pose).wxyz.tolist(),
            position=np.asarray(position, float).tolist(),
            **{"fov": 0.8, "near": 0.01, "far": 100.0, "image_height": size[1], "image_width": size[0]},
            look_at=[0.0, 0.0, 0.0],
            up_direction=[0.0, 0.0, 1.0],
        )

    def click(self, node: str) -> None:
        """Clicks something in the scene."""
        ray = {"ray_origin": [0.0] * 3, "ray_direction": [0.0, 0.0, 1.0], "screen_pos": [0.0, 0.0]}
        self.send("SceneNodeClickMessage", name=node, instance_index=None, modifier=None, owner="", **ray)

    def set(self, label: str, value: Any) -> None:
        """Sets the control that has a label; a button is pressed by True."""
        uuid = self.wait(lambda: self.controls.get(label))
        self.send("GuiUpdateMessage", uuid=uuid, updates={"value": value})

    def send(self, kind: str, **values: Any) -> None:
        self.socket.send(msgspec.msgpack.encode({"type": kind, **values}))

    def wait(self, holds: Callable[[], Any]) -> Any:
        """The first true value of a function that is called until it has one."""
        return wait_for(holds, PATIENCE, 0.02)

    def text(self) -> str:
        """What the page's texts say."""
        return "\n".join(self.texts.values())

    def _receive(self) -> None:
        try:
            for data in self.socket:
                length = int.from_bytes(data[8:16], "little")
                inner = zstandard.ZstdDecompressor().decompress(data[16 : 16 + length])
                for message in msgspec.msgpack.decode(inner)["messages"]:
                    self._take(message)
        except ConnectionClosed:
            pass

    def _take(self, message: dict[str, Any]) -> None:
        kind, uuid = message["type"], message.get("uuid")
        if kind == "BackgroundImageMessage" and message["rgb_data"]:
            self.pictures.append(np.asarray(Image.open(io.BytesIO(message["rgb_data"])).convert("RGB")))
        elif kind.startswith("SetCamera"):
            self.sets[kind] = message
        elif kind.startswith("Gui") and kind.endswith("Message") and "props" in message:
            self.controls[message["props"].get("label")] = uuid
            self.texts[uuid] = message["props"].get("_markdown") or ""
        elif kind == "GuiUpdateMessage":
            updates = message["updates"]
            self.texts[uuid] = updates.get("_markdown", self.texts.get(uuid, ""))
            if "label" in updates:
                self.controls[updates["label"]] = uuid
        elif "name" in message:
            self.nodes.add(message["name"])
