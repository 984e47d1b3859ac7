"""What people mistype about latent diffusion. {in} is the folder of `inputs.py`; a folder that is
whole needs the libraries, and its mistakes are in tests/test_latent_folder.py."""

LATENT = [
    ("sample model=latent", 2, "needs model.folder="),
    ("sample model=latent model.folder=nosuch prompts=x.txt", 2, "nosuch is no folder here"),
    ("sample model=latent model.folder={in}/run prompts=x.txt", 2, "has no model_index.json"),
    ("sample model=latent model.nosuch=1", 2, "there is no option model.nosuch"),
    ("train model=latent", 2, "needs model.folder="),
    ("sample model=latent model.folder=[1]", 2, "model.folder="),
    ("sample data=latents", 2, "write model=latent"),
    ("sample model=exact prompts={in}/file", 2, "write model=latent"),
    ("sample model=exact height=512", 2, "write model=latent"),
    ("sample model=latent data=circle prompts={in}/file", 2, "leave data= out"),
    ("sample model=latent n=0", 2, "n=0"),
    ("sample model=exact n=null", 2, "n=null"),
    ("sample model=latent prompts=", 2, "prompts= is empty"),
    ("sample model=exact metrics=clip", 2, "against their prompts"),
    ("sample model=exact data=digits metrics=clip metrics.clip.folder=x", 2, "their prompts"),
    (
        "sample model=exact data=digits metrics=fid metrics.fid.features=pixels "
        "metrics.fid.reference={in}/empty",
        2,
        "holds 0 pictures",
    ),
    ("sample model=exact data=digits metrics=fid metrics.fid.protocol=coco", 2, "coco30k_clean"),
    ("reproduce ge/coco folder=nowhere", 2, "nowhere"),
    ("reproduce ge/coco prompts=", 2, "prompts="),
    ("reproduce ge/coco data.root={in}", 2, "reads no set of images"),
]
