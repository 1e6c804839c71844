"""The trained state of K networks as few large tensors: their weights side by side, and Adam's moments likewise.

Shapes: K networks, P all parameters of one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from edgepain.train.batched.layers import Weights

BETAS, EPS = (0.9, 0.999), 1e-8
# Matrices that begin at multiples of this many bytes are multiplied fastest.
ALIGNMENT = 64

State = Mapping[str, Tensor]


@dataclass(frozen=True)
class NetworkState:
    """One network on the CPU: state dict, and Adam's state of each parameter by its number."""

    weights: dict[str, Tensor]
    adam: dict[int, dict[str, Tensor]]


class Stack:
    """K networks of the same shape with Adam. Adam works element by element, so one tensor is as good as many."""

    def __init__(self, models: Sequence[nn.Module], adams: Sequence[Mapping[int, State]], device: torch.device) -> None:
        """models, adams: each network and its optimizer's `state` by parameter number, empty at the beginning."""
        self._shapes = {name: p.shape for name, p in models[0].named_parameters()}
        self._dtype = next(models[0].parameters()).dtype
        elements = ALIGNMENT // self._dtype.itemsize
        self._sizes = [-(-shape.numel() // elements) * elements for shape in self._shapes.values()]
        states = [model.state_dict() for model in models]
        self.flat_KP = self._flattened(states, device).requires_grad_()
        numbered = [_by_name(adam, tuple(self._shapes)) for adam in adams]
        self._first_KP = self._flattened([names["exp_avg"] for names in numbered], device)
        self._second_KP = self._flattened([names["exp_avg_sq"] for names in numbered], device)
        counts = [max((float(each["step"]) for each in adam.values()), default=0.0) for adam in adams]
        self._steps_K1 = torch.tensor(counts, dtype=torch.float64, device=device).unsqueeze(1)
        self._buffers = {
            name: torch.stack([state[name] for state in states]).to(device) for name, _ in models[0].named_buffers()
        }

    def weights(self) -> Weights:
        """Weights and buffers by name; gradients go to `flat_KP`."""
        return Weights(self._named(self.flat_KP) | self._buffers)

    @torch.no_grad()
    def step(self, gradient_KP: Tensor, taking_part_K: Tensor, learning_rate: Tensor) -> None:
        """One step of Adam for networks that take part (1, else 0); the others stay as they are, to the last bit."""
        part_K1 = taking_part_K.unsqueeze(1).to(gradient_KP.dtype)
        self._steps_K1 += part_K1
        self._first_KP.lerp_(gradient_KP, (1 - BETAS[0]) * part_K1)
        self._second_KP.lerp_(gradient_KP.square(), (1 - BETAS[1]) * part_K1)
        begun_K1 = self._steps_K1.clamp(min=1)
        corrections_K1 = [-torch.expm1(begun_K1 * math.log(beta)) for beta in BETAS]
        size_K1 = (learning_rate / corrections_K1[0]).to(gradient_KP.dtype) * part_K1
        root_K1 = corrections_K1[1].sqrt().to(gradient_KP.dtype)
        self.flat_KP.sub_(size_K1 * self._first_KP / (self._second_KP.sqrt() / root_K1 + EPS))

    def networks(self) -> list[NetworkState]:
        """Every network as the ordinary training keeps it."""
        tensors = [self._named(x.detach().cpu()) for x in (self.flat_KP, self._first_KP, self._second_KP)]
        buffers = {name: x.cpu() for name, x in self._buffers.items()}
        found = []
        for k, steps in enumerate(self._steps_K1[:, 0].tolist()):
            weights = {name: x[k].clone() for name, x in (tensors[0] | buffers).items()}
            moments = zip(tensors[1].values(), tensors[2].values(), strict=True)
            adam = {
                number: {"step": torch.tensor(steps), "exp_avg": first[k].clone(), "exp_avg_sq": second[k].clone()}
                for number, (first, second) in enumerate(moments)
            }
            found.append(NetworkState(weights, adam))
        return found

    def _named(self, flat_KP: Tensor) -> dict[str, Tensor]:
        parts = torch.split(flat_KP, self._sizes, dim=1)
        return {
            name: part[:, : shape.numel()].view(-1, *shape)
            for (name, shape), part in zip(self._shapes.items(), parts, strict=True)
        }

    def _flattened(self, states: Sequence[State], device: torch.device) -> Tensor:
        """[K, P] of what each state holds for the parameters; zeros for what it does not."""
        flat_KP = torch.zeros(len(states), sum(self._sizes), dtype=self._dtype)
        for state, flat_P in zip(states, flat_KP, strict=True):
            for (name, shape), part in zip(self._shapes.items(), torch.split(flat_P, self._sizes), strict=True):
                if name in state:
                    part[: shape.numel()] = state[name].flatten()
        return flat_KP.to(device)


def _by_name(adam: Mapping[int, State], names: Sequence[str]) -> dict[str, dict[str, Tensor]]:
    moments = ("exp_avg", "exp_avg_sq")
    return {moment: {names[number]: state[moment] for number, state in adam.items()} for moment in moments}
