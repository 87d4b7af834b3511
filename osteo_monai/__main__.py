"""``python -m osteo_monai``: the same as the command ``osteo-monai``."""

from osteo_monai.cli import main

if __name__ == "__main__":
    main()
