"""The training of one TopoEncoder: its steps, and its whole state between them.

Every draw is keyed by purpose and step, so that a step depends on the state and its number alone. A
training that goes on from a kept state therefore ends with the bytes of one that was not interrupted.
Processes that train one model together take the same steps, each on its share of the same batches.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial

import numpy as np
import torch
from attrs import define, field

from atlas.errors import BadInput, InstrumentFailed
from atlas.objective import Objective, ObjectiveValue
from atlas.randomness import RandomStreams
from atlas_topoencoder.batches import BatchOrder, Drawn, Examples
from atlas_topoencoder.companions import Companions
from atlas_topoencoder.data import Dataset
from atlas_topoencoder.devices import Device, moved
from atlas_topoencoder.graphed_step import GraphedStep, set_rate
from atlas_topoencoder.joint_batches import joined
from atlas_topoencoder.losses.terms import SLOT
from atlas_topoencoder.model import TopoEncoder
from atlas_topoencoder.outputs import Encoding, ModelOutputs
from atlas_topoencoder.placing import place_charts, place_codes, revive_codes
from atlas_topoencoder.schedule import Schedule
from atlas_topoencoder.views import Views

__all__ = ["Schedule", "Training", "encode_rows"]

_PLACING_ROWS = 5000
"""Training examples that charts and codes are placed on, at most."""
_VIEW_TERMS = {"orbit", "vicreg-invariance"}
_WARMUP_TERMS = ("reconstruction", "base-reconstruction")


def encode_rows(
    model: TopoEncoder, dataset: Dataset, rows: np.ndarray, device: torch.device, chunk: int = 1024
) -> Iterator[tuple[torch.Tensor, Encoding]]:
    """Yield examples and their encodings, without gradients, a chunk at a time."""
    for start in range(0, len(rows), chunk):
        x = torch.from_numpy(dataset.take(rows[start : start + chunk])).to(device)
        with torch.no_grad():
            yield x, model.encode(x)


def _read(model: TopoEncoder, companions: Companions, drawn: Drawn, *, blended: bool) -> ModelOutputs:
    """Return what the loss terms read of a draw; charts weigh alike unless they are blended."""
    if blended:
        encoding, decoding = model(drawn.x)
    else:
        encoding = model.encode(drawn.x)
        even = torch.full_like(encoding.weights, 1 / encoding.weights.shape[1])
        decoding = model.decode(encoding.v, weights=even)
    return ModelOutputs(
        x=drawn.x,
        encoding=encoding,
        decoding=decoding,
        model=model,
        labels=drawn.labels,
        views={} if drawn.seen is None else {"view": model.encode(drawn.seen)},
        companions=companions,
        anchors=drawn.anchors,
    )


def _compiled(
    model: TopoEncoder, companions: Companions, objective: Objective
) -> Callable[[Drawn], ObjectiveValue]:
    """Return the objective of a draw as one compiled graph; nothing is compiled before its first call."""

    def value(drawn: Drawn) -> ObjectiveValue:
        return objective({SLOT: _read(model, companions, drawn, blended=True)})

    function: Callable[[Drawn], ObjectiveValue] = torch.compile(value, fullgraph=True)
    return function


def _without_graph(value: ObjectiveValue) -> ObjectiveValue:
    """Return a value that does not hold the share's graph, which going back leaves whole, in memory."""
    terms, groups = ({n: t.detach() for n, t in named.items()} for named in (value.terms, value.groups))
    return ObjectiveValue(value.total.detach(), terms, groups)


@define(eq=False)
class Training:
    """A model, what is trained beside it, and where they are in their schedule.

    Attributes:
        model: Being trained.
        companions: Parameters of loss terms.
        objective: Terms and weights.
        schedule: Of the steps.
        dataset: Where batches come from.
        order: Which rows each step sees.
        views: How views differ.
        random: Of this training.
        device: Where it computes.
        step: Steps done.
        anchors: Chart that placing gave each row of the data set, -1 where none; None before.
    """

    model: TopoEncoder
    companions: Companions
    objective: Objective
    schedule: Schedule
    dataset: Dataset
    order: BatchOrder
    views: Views
    random: RandomStreams
    device: Device
    step: int = 0
    anchors: np.ndarray | None = None
    optimizer: torch.optim.Optimizer = field(init=False)
    _warmup: Objective = field(init=False)
    _compiled: Callable[[Drawn], ObjectiveValue] = field(init=False)
    _examples: Examples = field(init=False)
    _graphed: dict[bool, GraphedStep[ObjectiveValue]] = field(init=False)

    def __attrs_post_init__(self) -> None:
        """Move the parameters to the device and make their optimiser.

        Raises:
            BadInput: A batch cannot be shared evenly.
        """
        size, processes = len(self.order.rows_of(0)), self.device.processes
        if size % processes:
            raise BadInput(
                f"a batch of {size} examples cannot be shared evenly by {processes} processes",
                where="schedule.batch_size",
                fix=f"ask for a multiple of {processes}, no larger than the training set",
            )
        self.model.to(self.device.device)
        self.companions.to(self.device.device)
        self.optimizer = torch.optim.AdamW(
            self.parameters(),
            lr=self.device.rate(self.schedule.learning_rate),
            weight_decay=self.schedule.weight_decay,
            fused=True,
            capturable=self.device.graphs,
        )
        if self.device.accelerator is not None:
            self.optimizer = self.device.accelerator.prepare_optimizer(self.optimizer)
        active = self.objective.active
        kept = [self.objective.terms[name] for name in _WARMUP_TERMS if name in active]
        self._warmup = Objective(kept, {t.name: active[t.name] for t in kept}) if kept else self.objective
        self._compiled = _compiled(self.model, self.companions, self.objective)
        self._examples = Examples(self.dataset, self.device.device)
        self._graphed = {
            warming_up: GraphedStep(partial(self._graphed_step, warming_up)) for warming_up in (True, False)
        }

    def parameters(self) -> list[torch.nn.Parameter]:
        """Parameters of the model and its companions, in a fixed order."""
        return [*self.model.parameters(), *self.companions.parameters()]

    @property
    def warming_up(self) -> bool:
        """Whether the next step decodes the point before quantisation, and reconstructs alone."""
        return self.step < self.schedule.warmup

    @property
    def now(self) -> Objective:
        """What the next step descends."""
        return self._warmup if self.warming_up else self.objective

    def rehearse(self) -> None:
        """Evaluate every term once, so that one without what it reads is refused before the first step.

        Raises:
            BadInput: A term reads other outputs than these, or something that this training has not.
        """
        outputs = self._outputs(self._drawn(self.objective), blended=True)
        if outputs.anchors is None:
            nowhere = torch.full((len(outputs.x),), -1, device=outputs.x.device)
            outputs = outputs._replace(anchors=nowhere)
        self.objective({SLOT: outputs})

    def drawn(self) -> Drawn:
        """Return what the next step reads, on the device."""
        return self._drawn(self.now)

    def _drawn(self, objective: Objective) -> Drawn:
        rows, device = self.order.rows_of(self.step), self.device.device
        plain = self._examples.take(rows)
        seen = None
        if _VIEW_TERMS & set(objective.active):
            seen = self.views.draw(plain, self.random.generator("view", self.step))
        labels = self.dataset.labels_of(rows)
        return Drawn(
            plain,
            seen,
            None if labels is None else moved(torch.from_numpy(labels), device),
            None if self.anchors is None else moved(torch.from_numpy(self.anchors[rows]), device),
        )

    def outputs(self) -> ModelOutputs:
        """Return what the loss terms read in the next step, with its graph."""
        return self._outputs(self.drawn(), blended=not self.warming_up)

    def _outputs(self, drawn: Drawn, *, blended: bool) -> ModelOutputs:
        if self.device.processes == 1:
            return _read(self.model, self.companions, drawn, blended=blended)
        share = _read(self.model, self.companions, drawn.share(self.device), blended=blended)
        whole = joined(share, self.device)
        return whole._replace(x=drawn.x, labels=drawn.labels, anchors=drawn.anchors)

    def advance(self) -> ObjectiveValue:
        """Take one step and return the objective's value before it; nothing is read from the device."""
        self._place()
        for group in self.optimizer.param_groups:
            set_rate(group, self.schedule.rate(self.step))
        if self.device.graphs:
            value = self._graphed[self.warming_up](*self.drawn())
        elif self.device.compiles and not self.warming_up:
            value = self._descend(lambda: self._compiled(self.drawn()))
        else:
            value = self._descend(lambda: self.now({SLOT: self.outputs()}))
        self.step += 1
        return value if self.device.processes == 1 else _without_graph(value)

    def _graphed_step(self, warming_up: bool, *drawn: torch.Tensor | None) -> ObjectiveValue:
        """Take the step that is recorded; the warm-up's is not compiled."""
        read = Drawn(*drawn)  # type: ignore[arg-type] # examples are never None

        def plain() -> ObjectiveValue:
            return self.now({SLOT: _read(self.model, self.companions, read, blended=False)})

        return _without_graph(self._descend(plain if warming_up else partial(self._compiled, read)))

    def _descend(self, objective: Callable[[], ObjectiveValue]) -> ObjectiveValue:
        """Change the parameters by the gradient of what is evaluated, and return it."""
        with self.device.autocast():
            value = objective()
        self.optimizer.zero_grad(set_to_none=True)
        self.device.backward(value.total)
        self._averaged()
        if self.device.accelerator is not None:
            self.device.accelerator.unscale_gradients()
        torch.nn.utils.clip_grad_norm_(self.parameters(), self.schedule.clip)
        self.optimizer.step()
        self.model.refresh()
        return value

    def gradient_norms(self) -> dict[str, float]:
        """Return the norm of each active term's gradient, before its weight, on the next step's batch."""
        value = self.now({SLOT: self.outputs()})
        norms = {}
        for name, term in value.terms.items():
            self.optimizer.zero_grad(set_to_none=True)
            term.backward(retain_graph=True)  # type: ignore[no-untyped-call] # torch's own
            found = [gradient.square().sum() for gradient in self._averaged()]
            norms[name] = math.sqrt(float(torch.stack(found).sum())) if found else 0.0
        self.optimizer.zero_grad(set_to_none=True)
        return norms

    def _averaged(self) -> list[torch.Tensor]:
        """Return the parameters' gradients, after putting into them their means over the processes."""
        found = [parameter.grad for parameter in self.parameters() if parameter.grad is not None]
        self.device.average(found)
        return found

    def checked(self, value: ObjectiveValue) -> dict[str, float]:
        """Return the value of each term as a number.

        Raises:
            InstrumentFailed: One is not finite.
        """
        figures = {name: float(term.detach()) for name, term in value.terms.items()}
        bad = [name for name, figure in figures.items() if not math.isfinite(figure)]
        if bad:
            raise InstrumentFailed(
                f"the loss term {bad[0]} is {figures[bad[0]]} at step {self.step}",
                where=f"loss.{bad[0]}",
                fix="lower the learning rate, or the term's weight",
            )
        return figures

    def agree(self) -> None:
        """Bring all processes to the state of the first; where there is one, nothing happens."""
        device = self.device
        if device.processes == 1:
            return
        tensors, step = device.of_the_first((self.state(), self.step) if device.first else ({}, 0))
        if not device.first:
            self.restore(tensors, step)

    def _place(self) -> None:
        """Place charts and codes after the warm-up, and revive dead codes when it is time."""
        first = self.step == self.schedule.warmup and self.schedule.placing != "none"
        if not first and not self.schedule.revives(self.step):
            return
        if self.device.first:
            self._place_here(first)
        self.agree()

    def _place_here(self, first: bool) -> None:
        schedule = self.schedule
        picked = self.random.generator("placing", self.step).permutation(len(self.order.rows))
        rows = self.order.rows[picked[:_PLACING_ROWS]]
        seed = int(self.random.generator("placing seed", self.step).integers(2**31 - 1000))
        if first:
            found = [e.v for _, e in encode_rows(self.model, self.dataset, rows, self.device.device)]
            charts = place_charts(
                self.model,
                torch.cat(found),
                method=schedule.placing,
                seed=seed,
                labels=self.dataset.labels_of(rows),
            )
            self.anchors = np.full(len(self.dataset), -1, dtype=np.int64)
            self.anchors[rows] = charts
        encodings = [e for _, e in encode_rows(self.model, self.dataset, rows, self.device.device)]
        local, chart = torch.cat([e.local for e in encodings]), torch.cat([e.chart for e in encodings])
        if first:
            place_codes(self.model, local, chart, seed=seed)
            moved = None
        else:
            moved = revive_codes(self.model, local, chart, torch.cat([e.code for e in encodings]))
        self.model.refresh()
        self._forget(first, moved)

    def _forget(self, centres: bool, codes: list[tuple[int, int]] | None) -> None:
        """Clear the optimiser's memory of what was put elsewhere; `codes` None for all."""
        for router in {self.model.router, self.model.decoder_router} if centres else ():
            for moment in self._moments(router.centers_tangent).values():
                moment.zero_()
        for moment in self._moments(self.model.quantiser.tangent).values():
            for place in [slice(None)] if codes is None else codes:
                moment[place] = 0

    def _moments(self, parameter: torch.nn.Parameter) -> Mapping[str, torch.Tensor]:
        state = self.optimizer.state.get(parameter, {})
        return {name: state[name] for name in ("exp_avg", "exp_avg_sq") if name in state}

    def state(self) -> dict[str, torch.Tensor]:
        """Return all tensors that the next step depends on, by name."""
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        tensors |= {f"companions.{name}": value for name, value in self.companions.state_dict().items()}
        for number, parameter in enumerate(self.parameters()):
            for name, value in self.optimizer.state.get(parameter, {}).items():
                tensors[f"optimizer.{number}.{name}"] = value
        if self.anchors is not None:
            tensors["anchors"] = torch.from_numpy(self.anchors)
        return {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}

    def restore(self, tensors: Mapping[str, torch.Tensor], step: int) -> None:
        """Go on from what `state` returned after so many steps."""
        for prefix, module in (("model.", self.model), ("companions.", self.companions)):
            own = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
            module.load_state_dict(own)
        for number, parameter in enumerate(self.parameters()):
            prefix = f"optimizer.{number}."
            own = {n.removeprefix(prefix): t.clone() for n, t in tensors.items() if n.startswith(prefix)}
            if own:
                self.optimizer.state[parameter] = {n: t.to(parameter.device) for n, t in own.items()}
        self.anchors = tensors["anchors"].numpy().copy() if "anchors" in tensors else None
        self.step = step
        for graphed in self._graphed.values():
            graphed.forget()
