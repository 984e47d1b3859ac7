"""`diffgeo reproduce`: a published table or figure beside what is measured here

    diffgeo reproduce NAME [budget=paper|quick] [out=FOLDER] [data.root=ROOT]
    diffgeo reproduce list                      what there is
    diffgeo reproduce cem/line                  quick; budget=paper is the size of the paper's own
    diffgeo reproduce gauss/table data.root=ROOT

Each conf/reproduce/NAME.yaml lists cells: a name, the command that makes it, and the published
numbers. The engine runs the commands (a cell that is finished is not run again), prints the table
and writes table.md, table.csv and the figures that the file names, which the other modules of this
folder draw.

data.root= is where the sets of images lie, of those that read one ($DIFFGEO_DATA unless it is
given). Some tables need a model that is brought: their `models` say which options name one
(checkpoint=FILE, run=FOLDER, folder=FOLDER); their `paths`, what else it needs (prompts=FILE).
Without the model their cells stay empty, and the commands that would fill them are listed.
"""

from diffgeo.commands.reproduce.engine import main

__all__ = ["main"]
