# A pretrained server and 100 classes: cifar10-lite0 on CIFAR-100.
# needs: CIFAR100, a name or file that --dataset takes; timm; LITE0 as cifar10-lite0
# takes: three hours for the server, then 15 minutes a seed, on one core
behind_lite0 "${CIFAR100:-cifar100}" CIFAR100
tables=(cifar100-lite0)
