"""All parameters of a module in one buffer, so that Adam, clipping, the average and the sum over
processes are single calls."""

from __future__ import annotations

from torch import Tensor, cat, nn, zeros_like


class Flat:
    """A module's parameters as views of one buffer [P], and their gradients as views of another.

    Gradients accumulate into the buffer, so it is zeroed, never set to None. channels_last: the
    weights of convolutions [O,I,h,w] lie in the buffer as [O,h,w,I].
    """

    def __init__(self, module: nn.Module, channels_last: bool = False):
        self.module = module
        self.channels_last = channels_last
        self.names: list[str] = []
        self.parameters: list[nn.Parameter] = []
        for name, parameter in module.named_parameters():
            if parameter.requires_grad:
                self.names.append(name)
                self.parameters.append(parameter)
        self.values = cat([self.laid(p.detach()).flatten() for p in self.parameters])
        self.grad = zeros_like(self.values)
        views = zip(self.parameters, self.split(self.values), self.split(self.grad), strict=True)
        for parameter, value, grad in views:
            parameter.data = value
            parameter.grad = grad

    def turned(self, parameter: Tensor) -> bool:
        """Whether a parameter lies in the buffer with its channels last."""
        return self.channels_last and parameter.dim() == 4

    def laid(self, parameter: Tensor) -> Tensor:
        """A parameter with its dimensions in the order of the buffer."""
        return parameter.movedim(1, -1) if self.turned(parameter) else parameter

    def split(self, buffer: Tensor) -> list[Tensor]:
        """The parameters that `buffer` [P] holds, each a view in its own shape."""
        pieces = buffer.split([p.numel() for p in self.parameters])
        views = []
        for piece, parameter in zip(pieces, self.parameters, strict=True):
            view = piece.view(self.laid(parameter).shape)
            views.append(view.movedim(-1, 1) if self.turned(parameter) else view)
        return views

    def named(self, buffer: Tensor) -> dict[str, Tensor]:
        """The whole state of the module by name, its parameters read from `buffer` [P]."""
        return self.module.state_dict() | dict(zip(self.names, self.split(buffer), strict=True))
