"""What ``make demo`` runs: the example clip through the weights that the package carries."""

from pathlib import Path

from diffsal.outputs.render import Outputs, render
from diffsal.runtime.loading import load_engine

clip = Path(__file__).with_name("bigbuckbunny.mp4")
folder = Path("demo")
folder.mkdir(exist_ok=True)
outputs = Outputs(folder / "overlay.mp4", folder / "maps", sheet=folder / "contact_sheet.png")
result = render(load_engine("compact"), str(clip), outputs)
print(f"{result.frames} frames of {clip.name}")
print(f"overlay, with the sound: {outputs.overlay}")
print(f"one 16-bit map a frame:  {outputs.maps}/")
print(f"contact sheet:           {outputs.sheet}")
