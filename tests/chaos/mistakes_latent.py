"""What people mistype about latent diffusion. {in} is the folder of `inputs.py`; a folder that is
whole needs the libraries, and its mistakes are in tests/test_latent_folder.py."""

LATENT = [
    ("sample model=latent", 2, "needs model.folder="),
    ("sample model=latent model.folder=nosuch prompts=x.txt", 2, "nosuch is no folder here"),
    ("sample model=latent model.folder={in}/run prompts=x.txt", 2, "has no model_index.json"),
    ("sample model=latent model.nosuch=1", 2, "there is no option model.nosuch"),
    ("train model=latent", 2, "needs model.folder="),
    ("sample model=latent model.folder=[1]", 2, "model.folder="),
]
