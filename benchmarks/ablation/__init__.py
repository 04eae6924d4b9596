"""What each of the paper's ideas is worth: networks that differ in one idea, trained alike, over several seeds."""
