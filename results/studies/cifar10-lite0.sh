# A pretrained server: EfficientNet-Lite0 with ImageNet weights, fine-tuned at 128 px, beside LeNet-5.
# needs: CIFAR-10; timm; LITE0, a file of its ImageNet weights with timm's names
# takes: three hours for the server, then 15 minutes a seed, on one core
behind_lite0 "$cifar10" CIFAR10
tables=(cifar10-lite0)
