"""`diffgeo help`: what a command, a group, GROUP=CHOICE or an option is: help WHAT

    diffgeo help [COMMAND|GROUP|GROUP=CHOICE|OPTION]
    diffgeo help sampler                    the choices of a group, a line each
    diffgeo help sampler=unipc              one of them: its options with kind, default and words
    diffgeo help sampler.gamma              an option: what it is, and what has it
    diffgeo help theory gaussian            a command: all that there is to say of it

What it prints of an option is the comment behind it in conf/, and its kind is what the class that
takes it annotates. With plugins=[mypkg] the choices and options of a package of yours are among
them.
"""

from __future__ import annotations

from diffgeo.config.help import manual


def main(words: list[str]) -> None:
    print(manual.of(words))
