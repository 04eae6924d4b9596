"""`r2b-run watch`: classifies a camera's frames and says when the label changes.

Read in this order: `hysteresis.py` (when a label has changed), `frames.py` with `mjpeg.py` and `v4l2.py` (where frames
come from), `reader.py` (the newest frame, and waiting for a camera), `loop.py` (frames to events), `outputs.py` and
`mqtt.py` (events to lines, commands and a broker), `systemd.py` and `unit.py` (running the command as a service),
`command.py` and `arguments.py` (the command's arguments).
"""
