# A pretrained server: EfficientNet-Lite0 with ImageNet weights, fine-tuned at 128 px, beside LeNet-5.
# needs: CIFAR-10; timm; LITE0, a file of its ImageNet weights with timm's names
# takes: three hours for the server, then 15 minutes a seed, on one core
need_data "$cifar10" CIFAR10
weights=${LITE0:-datasets/tf_efficientnet_lite0.pth}
need "$weights" "set LITE0 to a file of timm's weights, made where there is a network by: python -c \"import timm, torch; torch.save(timm.create_model('tf_efficientnet_lite0', pretrained=True).state_dict(), 'tf_efficientnet_lite0.pth')\""
split=(--dataset "$cifar10" --val_size 2500 --rejector_val_size 2500 --resume
  ${everywhere[@]+"${everywhere[@]}"})
server=(--edge_only --edge_net timm/tf_efficientnet_lite0 --edge_size 128)

# The server is trained once: it is the same network for every device.
"$python" train_edgenet_async.py "${split[@]}" --save_dir "$run/server" --seed 0 "${server[@]}" \
  --edge_weights "$weights" --epochs 8 --batch_size 64 --lr 0.02 --schedule cosine \
  --weight_decay 1e-4 --augment flip_crop ${extra[@]+"${extra[@]}"}
each "$python" train_localnet.py "${split[@]}" ${extra_local[@]+"${extra_local[@]}"}
each "$python" train_edgenet_async.py "${split[@]}" "${server[@]}" --epochs 0 \
  --edge_weights "$run/server/$name-edgenet.pth"
each "$python" train_rejector.py --dataset "$cifar10" --rejector_input features image both \
  ${everywhere[@]+"${everywhere[@]}"} ${fast_student[@]+"${fast_student[@]}"}
for seed in "${seeds[@]}"; do
  "$python" eval_all.py --dataset "$cifar10" --save_dir "$run/seed-$seed" --resume \
    ${everywhere[@]+"${everywhere[@]}"}
done
tables=(cifar10-lite0)
