"""Figure of segmented slices."""

from pathlib import Path

import torch
from ignite.engine import Engine, Events

from osteo_monai import handlers


def test_overlays_show_slices_that_hold_a_body(tmp_path: Path) -> None:
    empty = {key: torch.zeros(1, 16, 16) for key in ("image", "label", "pred")}
    body = {**empty, "label": torch.nn.functional.pad(torch.ones(1, 6, 6), (5, 5, 5, 5))}
    engine = Engine(lambda engine, batch: batch)
    handler = handlers.OverlayFigures(str(tmp_path / "figures"), count=2)
    handler.attach(engine)
    rows = []
    engine.add_event_handler(Events.EPOCH_COMPLETED, lambda: rows.extend(handler._rows))
    engine.run([[empty, body]], max_epochs=1)
    assert len(rows) == 1
    assert (tmp_path / "figures" / "overlays.png").stat().st_size > 1000
