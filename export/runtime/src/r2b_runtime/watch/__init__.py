"""`r2b-run watch`: classifies a camera's frames and says when the label changes.

Read in this order: `hysteresis.py` (when a label has changed), `frames.py` with `mjpeg.py` and `v4l2.py` (where frames
come from), `reader.py` (the newest frame, and waiting for a camera), `loop.py` (frames to events), `outputs.py` (events
to lines and commands), `systemd.py` (running it as a service), `command.py` (its arguments).
"""
