import sys

from sslkernels.pretrain.cli import main

sys.exit(main())
